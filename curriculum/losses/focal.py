"""Focal loss (Lin et al. 2017, arXiv:1708.02002, Eq. 4)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor

from curriculum.losses.base import Loss, LossContext, class_parts
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Focal:
    """-(1 - p_y)^gamma log p_y: easy samples weigh less; takes no notice of class counts.

    Attributes:
        gamma: 0 is cross-entropy; the paper uses 0.5 to 2.
    """

    gamma: Annotated[float, Field(ge=0)] = 1.0

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The focal loss of each sample; of soft targets, of each class's part."""
        return class_parts(logits, labels, self.gamma).sum(-1)


METHOD: Final[type[Loss]] = Focal
