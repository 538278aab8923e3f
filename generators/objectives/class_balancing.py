"""Class-balancing diffusion, CBDM (Qin et al., CVPR 2023, arXiv:2305.00562)."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from generators.objectives.base import FitBatch, Objective, Predict


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBalancing:
    """Denoising, and predictions for another class close by: tails learn from the whole set.

    With h the prediction for the image's class, h' for a drawn one, sg stopping the gradient:
    ||target - h||^2 + (t / T) tau (||h - sg(h')||^2 + ||sg(h) - h'||^2 / 4), without the second
    term where the label was dropped. The paper's h is the noise; velocities at the same x_t differ
    by a factor that both terms share, so their ratio is the paper's. Two evaluations a row.

    Attributes:
        tau: weight of the second term; 0 is plain denoising.
        classes: how the other class is drawn: by its images, as for training from scratch, or
            `uniform`, as for fine-tuning.
    """

    tau: Annotated[float, Field(ge=0)] = 1.0
    classes: Literal["by_count", "uniform"] = "by_count"

    def loss(self, predict: Predict, batch: FitBatch) -> Tensor:
        """Mean over the batch."""
        if self.tau == 0:
            return functional.mse_loss(
                predict(batch.x_t, batch.timesteps, batch.labels), batch.target
            )
        weights = batch.class_counts.cpu().double()
        if self.classes == "uniform":
            weights = torch.ones_like(weights)
        drawn = torch.multinomial(weights, len(batch.x_t), replacement=True, generator=batch.draws)
        labels = torch.cat([batch.labels, drawn.to(batch.labels)])
        own, other = predict(batch.x_t.repeat(2, 1, 1, 1), batch.timesteps.repeat(2), labels).chunk(
            2
        )
        apart = (own - other.detach()).square() + (own.detach() - other).square() / 4
        kept = (batch.labels != batch.null_class).to(own)
        share = kept * batch.timesteps.to(own) / batch.num_timesteps
        denoising = functional.mse_loss(own, batch.target)
        return denoising + self.tau * (share * apart.flatten(1).mean(1)).mean()


METHOD: Final[type[Objective]] = ClassBalancing
