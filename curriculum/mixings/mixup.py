"""Mixup (Zhang et al. 2018, arXiv:1710.09412, Eq. 1)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from curriculum.mixings.base import MixContext, Mixing, WithinBatch, one_hot


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixup(WithinBatch):
    """Adds each image to its mirror in the batch, in shares of a Beta(alpha, alpha).

    Attributes:
        alpha: of the Beta distribution.
    """

    alpha: Annotated[float, Field(gt=0)] = 0.4

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """One share a batch, for images and targets alike."""
        share, soft = (
            float(context.rng.beta(self.alpha, self.alpha)),
            one_hot(labels, images, context),
        )
        return torch.lerp(images.flip(0), images, share), torch.lerp(soft.flip(0), soft, share)


METHOD: Final[type[Mixing]] = Mixup
