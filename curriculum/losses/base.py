"""The protocol of the loss family."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from generators.heads import HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossContext:
    """What a loss may know beside the batch.

    Attributes:
        class_counts: (num_classes,) images a class in the pool the epoch is drawn from: the prior
            the network is trained under, synthetic images and balanced sampling included.
        progress: share of the training that is done, 0 <= progress < 1.
    """

    class_counts: Tensor
    progress: float = 0.0


class Loss(Protocol):
    """A loss a sample."""

    @property
    def head(self) -> HeadSpec:
        """The classifier head it needs."""

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The loss of each sample, for training only (at test time, argmax of plain logits).

        Args:
            logits: (N, num_classes); of several experts (N, num_experts, num_classes).
            labels: (N,) int64, or soft targets (N, num_classes) whose rows sum to 1 (mixup).
            context: of the batch.

        Returns:
            (N,).
        """


def prior(class_counts: Tensor, like: Tensor) -> Tensor:
    """(num_classes,) share of each class, sum 1; a class without images counts as having one."""
    counts = class_counts.to(like).clamp_min(1)
    return counts / counts.sum()


def soft_targets(labels: Tensor, num_classes: int) -> Tensor:
    """(N, num_classes) targets whose rows sum to 1, from labels of either form."""
    return labels if labels.ndim == 2 else functional.one_hot(labels, num_classes).float()


def class_parts(logits: Tensor, labels: Tensor, gamma: float = 0.0) -> Tensor:
    """(N, num_classes) of each class's part in the cross-entropy, or focal loss, of each sample.

    Args:
        logits: (N, num_classes).
        labels: of either form.
        gamma: of the focal loss (Lin et al. 2017, arXiv:1708.02002, Eq. 4); 0 is cross-entropy.
    """
    log_p = logits.log_softmax(-1)
    parts = -soft_targets(labels, logits.shape[-1]) * log_p
    return parts * (1 - log_p.exp()) ** gamma if gamma else parts
