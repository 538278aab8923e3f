"""CutMix (Yun et al. 2019, arXiv:1905.04899)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from curriculum.mixings.base import MixContext, Mixing, WithinBatch, draw_box, one_hot


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutmix(WithinBatch):
    """Pastes a box of each image's mirror in the batch; targets by area.

    Attributes:
        alpha: of the Beta distribution of the area.
        probability: of a batch to be mixed.
    """

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """One box a batch."""
        if context.rng.random() >= self.probability:
            return images, labels
        height, width = images.shape[2:]
        pasted = 1 - float(context.rng.beta(self.alpha, self.alpha))
        top, bottom, left, right = draw_box(height, width, pasted, context.rng)
        mixed, soft = images.clone(), one_hot(labels, images, context)
        mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(soft.flip(0), soft, kept)


METHOD: Final[type[Mixing]] = Cutmix
