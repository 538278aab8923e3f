"""Cross-entropy, label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy:
    """-log softmax(z)_y; takes no notice of class counts.

    Attributes:
        label_smoothing: share of the target spread evenly over all classes, 0..1.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy of each sample."""
        return functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )


METHOD: Final[type[Loss]] = CrossEntropy
