"""Context-rich minority oversampling, CMO (Park et al. 2022, arXiv:2112.00412, Algorithm 1)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from curriculum.mixings.base import MixContext, Mixing, draw_box, one_hot


@dataclass(frozen=True, slots=True, kw_only=True)
class TailCutmix:
    """CutMix that pastes rare classes on the backgrounds of frequent ones.

    What is pasted is drawn from all images of the epoch, so that twice as many are read.

    Attributes:
        alpha: of the Beta distribution of the area.
        probability: of a batch to be mixed.
        exponent: of the inverse class counts that the pasted images are drawn by.
        first_percent: share of the training at its begin without mixing; the authors': 4 epochs
            of 200.
        last_percent: at its end; the authors': 3 epochs.
    """

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    exponent: Annotated[float, Field(ge=0)] = 1.0
    first_percent: Annotated[int, Field(ge=0, le=100)] = 2
    last_percent: Annotated[int, Field(ge=0, le=100)] = 2

    @property
    def partner_exponent(self) -> float:
        """The pasted images."""
        return self.exponent

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """One box a batch, another foreground for each image."""
        backgrounds, foregrounds = images.chunk(2)
        percent = 100 * context.progress
        is_time = self.first_percent <= percent < 100 - self.last_percent
        if not is_time or context.rng.random() >= self.probability:
            return backgrounds, labels[: len(backgrounds)]
        height, width = images.shape[2:]
        pasted = 1 - float(context.rng.beta(self.alpha, self.alpha))
        top, bottom, left, right = draw_box(height, width, pasted, context.rng)
        mixed = backgrounds.clone()
        mixed[:, :, top:bottom, left:right] = foregrounds[:, :, top:bottom, left:right]
        own, pasted_in = one_hot(labels, images, context).chunk(2)
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(pasted_in, own, kept)


METHOD: Final[type[Mixing]] = TailCutmix
