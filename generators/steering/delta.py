"""A small network that is added to a generator's noise prediction."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generators.noise import PredictionType
from generators.program import Conditioning

LABEL = "label"
"""Name of the class index in its conditioning."""


class DeltaNetwork(nn.Module):
    """Convolutions at the samples' size; says nothing before it is trained (last layer zero).

    Args:
        channels: of the samples.
        num_classes: that it tells apart.
        width: of its layers.
        depth: hidden layers.
    """

    def __init__(self, channels: int, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.told = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = nn.Embedding(num_classes, width)
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x_t: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """(N, C, h, w) for samples, timesteps (N,) in 0..1000 and labels (N,)."""
        angle = timesteps.float()[:, None] / 1000 * (math.pi / 2)
        told = self.told(torch.cat([angle.sin(), angle.cos()], 1)) + self.classes(labels)
        state = self.first(x_t) + told[:, :, None, None]
        for layer in self.hidden:
            state = state + layer(nn.functional.silu(state))
        out: Tensor = self.last(nn.functional.silu(state))
        return out


@dataclass(frozen=True, slots=True)
class Epsilon:
    """Says that a network's output is noise."""

    prediction_type: PredictionType = "epsilon"


@dataclass(frozen=True, slots=True, eq=False)
class DeltaModel:
    """The network as programs ask for it, with what it adds as the noise."""

    module: DeltaNetwork
    schedule: Epsilon = Epsilon()

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """As `Network.forward`."""
        found: Tensor = self.module(x_t, timesteps, cond[LABEL])
        return found
