"""Weights by the effective number of samples (Cui et al. 2019, arXiv:1901.05555, Eq. 2)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor

from curriculum.losses.base import Loss, LossContext, class_parts
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBalanced:
    """Cross-entropy, or focal loss, weighted by (1 - beta) / (1 - beta^n), weights of sum C.

    Attributes:
        beta: 0 is no weight, close to 1 is the inverse count.
        gamma: of the focal loss (Lin et al. 2017, arXiv:1708.02002); 0 is cross-entropy.
        deferred_percent: share of the training without weights (DRW, arXiv:1906.07413).
    """

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    gamma: Annotated[float, Field(ge=0)] = 0.0
    deferred_percent: Annotated[int, Field(ge=0, le=100)] = 0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The weighted loss of each sample; of soft targets, of each class's part."""
        parts = class_parts(logits, labels, self.gamma)
        if 100 * context.progress >= self.deferred_percent:
            parts = parts * effective_weights(context.class_counts, self.beta, logits)
        return parts.sum(-1)


def effective_weights(class_counts: Tensor, beta: float, like: Tensor) -> Tensor:
    """(num_classes,) weights of sum num_classes; a class without images counts as having one."""
    counts = class_counts.to(like).double().clamp_min(1)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(weights) / weights.sum()).to(like)


METHOD: Final[type[Loss]] = ClassBalanced
