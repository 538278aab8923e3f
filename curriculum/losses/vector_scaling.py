"""The vector-scaling loss: class-dependent temperatures (Kini et al. 2021, arXiv:2103.01550)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext, prior
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorScaling:
    """Cross-entropy of (n_c / n_max)^gamma z_c + tau log pi_c; cross-entropy for equal counts.

    Attributes:
        gamma: of the temperatures; 0 is the logit-adjusted loss.
        tau: of the shift.
    """

    gamma: Annotated[float, Field(ge=0)] = 0.15
    tau: Annotated[float, Field(ge=0)] = 1.0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy of the scaled and shifted logits of each sample."""
        shares = prior(context.class_counts, logits)
        scaled = (shares / shares.max()) ** self.gamma * logits + self.tau * shares.log()
        return functional.cross_entropy(scaled, labels, reduction="none")


METHOD: Final[type[Loss]] = VectorScaling
