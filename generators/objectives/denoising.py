"""The plain denoising loss (Ho et al. 2020, arXiv:2006.11239; for v: arXiv:2202.00512)."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional

from generators.objectives.base import FitBatch, Objective, Predict


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising:
    """Mean squared error of the velocity."""

    def loss(self, predict: Predict, batch: FitBatch) -> Tensor:
        """One evaluation a row."""
        velocity = predict(batch.x_t, batch.timesteps, batch.labels)
        return functional.mse_loss(velocity, batch.target)


METHOD: Final[type[Objective]] = Denoising
