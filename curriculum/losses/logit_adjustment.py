"""The logit-adjusted loss (Menon et al. 2021, arXiv:2007.07314, Eq. 10)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext, prior
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAdjustment:
    """Cross-entropy of z + tau log pi; with tau 1 it is Balanced Softmax.

    The rebalancer of the same name adjusts a network that was trained without it: not both.

    Attributes:
        tau: 1 is consistent for the balanced error; 0 is plain cross-entropy.
        label_smoothing: share of the target spread evenly over all classes, 0..1.
    """

    tau: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy of the shifted logits of each sample."""
        shifted = logits + self.tau * prior(context.class_counts, logits).log()
        return functional.cross_entropy(
            shifted, labels, reduction="none", label_smoothing=self.label_smoothing
        )


METHOD: Final[type[Loss]] = LogitAdjustment
