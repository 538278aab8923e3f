"""The protocol of the objective family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, timesteps, labels) to the network's velocity, of x_t's shape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitBatch:
    """Noisy images of one update, and what the network should say of them.

    Attributes:
        x_t: (N, C, H, W).
        timesteps: (N,) int64, 0..num_timesteps-1.
        labels: (N,) int64; `null_class` where the label was dropped.
        target: (N, C, H, W) velocity.
        null_class: index of "no class".
        class_counts: (num_classes,) images of each class that the generator is trained on.
        num_timesteps: of the noise schedule.
        draws: source of further random numbers, on the CPU.
    """

    x_t: Tensor
    timesteps: Tensor
    labels: Tensor
    target: Tensor
    null_class: int
    class_counts: Tensor
    num_timesteps: int
    draws: torch.Generator


class Objective(Protocol):
    """A loss of a batch."""

    def loss(self, predict: Predict, batch: FitBatch) -> Tensor:
        """The scalar to minimise; calls the network as often as it needs to."""
