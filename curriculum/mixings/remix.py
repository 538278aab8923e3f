"""Remix: mixup whose targets favour the rare class (Chou et al. 2020, arXiv:2007.03943, Eq. 8)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from curriculum.mixings.base import MixContext, Mixing, WithinBatch, one_hot


@dataclass(frozen=True, slots=True, kw_only=True)
class Remix(WithinBatch):
    """Mixup of images; the target is the rare class alone where it is rare and present enough.

    With lambda the share of image i in its mixture with j: the target is j's alone if
    n_i / n_j >= kappa and lambda < tau, i's alone if n_j / n_i >= kappa and 1 - lambda < tau, else
    as in mixup.

    Attributes:
        alpha: of the Beta distribution.
        kappa: how much rarer a class must be.
        tau: share below which the frequent class may be forgotten.
    """

    alpha: Annotated[float, Field(gt=0)] = 1.0
    kappa: Annotated[float, Field(ge=1)] = 3.0
    tau: Annotated[float, Field(ge=0, le=1)] = 0.5

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """Each image with its mirror in the batch."""
        share = float(context.rng.beta(self.alpha, self.alpha))
        counts = context.class_counts.to(images).clamp_min(1)[labels]
        ratio = counts / counts.flip(0)
        targets = torch.full_like(ratio, share)
        if share < self.tau:
            targets[ratio >= self.kappa] = 0.0
        if 1 - share < self.tau:
            targets[1 / ratio >= self.kappa] = 1.0
        soft = one_hot(labels, images, context)
        mixed = torch.lerp(images.flip(0), images, share)
        return mixed, targets[:, None] * soft + (1 - targets[:, None]) * soft.flip(0)


METHOD: Final[type[Mixing]] = Remix
