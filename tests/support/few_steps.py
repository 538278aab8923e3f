"""Runs samplers on hand-made predictions or on a bare network, without backbone and engine."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Prediction, Program
from generators.samplers.base import Sampler

Predict = Callable[[Tensor, NoiseLevel], Prediction]


def run_sampler(
    sampler: Sampler, x_t: Tensor, levels: Sequence[NoiseLevel], predict: Predict, seed: int
) -> Tensor:
    """The sample made with a denoiser that needs no model calls; noise from `seed`."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        return predict(x_t, level)
        yield ()

    generator = torch.Generator().manual_seed(seed)
    with pytest.raises(StopIteration) as stop:
        next(sampler.sample(denoise, x_t, levels, generator))
    sample: Tensor = stop.value.value
    return sample


def from_epsilon(network: Callable[[Tensor, float], Tensor]) -> Predict:
    """Predictions of a network (x_t, timestep) -> eps."""

    def predict(x_t: Tensor, level: NoiseLevel) -> Prediction:
        eps = network(x_t, level.timestep)
        return Prediction(x_0=(x_t - level.sigma * eps) / level.alpha, eps=eps)

    return predict


def wavy(x_t: Tensor, timestep: float) -> Tensor:
    """A smooth made-up network, about as large as noise."""
    return torch.sin(3 * x_t + timestep / 300) + 0.3 * x_t.flip(-1)
