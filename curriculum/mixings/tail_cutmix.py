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

    The pasted images are drawn from the batch, by (1 / n)^exponent of their classes. The authors
    draw them from the whole training set: a batch without a rare class has none to paste here.

    Attributes:
        alpha: of the Beta distribution of the area.
        probability: of a batch to be mixed.
        exponent: of the inverse class counts.
        last_percent: share of the training at its end without mixing.
    """

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    exponent: Annotated[float, Field(ge=0)] = 1.0
    last_percent: Annotated[int, Field(ge=0, le=100)] = 2

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """One box a batch, another foreground for each image."""
        late = 100 * context.progress >= 100 - self.last_percent
        if late or context.rng.random() >= self.probability:
            return images, labels
        counts = context.class_counts.cpu().double().clamp_min(1)
        weights = (counts[labels.cpu()] ** -self.exponent).numpy()
        drawn = context.rng.choice(len(labels), len(labels), p=weights / weights.sum())
        chosen = torch.from_numpy(drawn).to(labels.device)
        height, width = images.shape[2:]
        pasted = 1 - float(context.rng.beta(self.alpha, self.alpha))
        top, bottom, left, right = draw_box(height, width, pasted, context.rng)
        mixed, soft = images.clone(), one_hot(labels, images, context)
        mixed[:, :, top:bottom, left:right] = images[chosen][:, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(soft[chosen], soft, kept)


METHOD: Final[type[Mixing]] = TailCutmix
