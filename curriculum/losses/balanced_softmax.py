"""Balanced Softmax (Ren et al. 2020, arXiv:2007.10740, Theorem 1)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedSoftmax:
    """Cross-entropy of z + log n: unlearns the class frequencies n of the training data.

    A class without images counts as one, so that soft targets stay finite.

    Attributes:
        label_smoothing: share of the target spread evenly over all classes, 0..1.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy of the shifted logits of each sample."""
        shifted = logits + context.class_counts.to(logits).clamp_min(1).log()
        return functional.cross_entropy(
            shifted, labels, reduction="none", label_smoothing=self.label_smoothing
        )


METHOD: Final[type[Loss]] = BalancedSoftmax
