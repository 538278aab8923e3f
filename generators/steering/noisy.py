"""Classifiers of noisy samples that are told how much noise there is."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.classifiers import create_classifier
from generators.noise import NoiseLevel
from generators.program import Conditioning
from generators.steering.energies import log_probability_of

LEAST_SIDE = 8
"""Smaller samples are enlarged: networks halve their inputs."""


def noise_share(level: NoiseLevel) -> float:
    """How far from the clean image a level is: 0 clean, 1 pure noise; an angle over a right one.

    The same for networks with other timesteps, and spread evenly where alpha = cos, sigma = sin.
    """
    return math.atan2(level.sigma, level.alpha) / (math.pi / 2)


class NoisyClassifier(nn.Module):
    """Any timm model, or ours, with one more input channel: the share of noise.

    Args:
        model: name for `create_classifier`.
        num_classes: logits.
        sample_shape: (C, h, w) of the samples.
        seed: of the initial weights.
    """

    def __init__(
        self, model: str, num_classes: int, sample_shape: tuple[int, int, int], seed: int = 0
    ) -> None:
        super().__init__()
        channels, height, width = sample_shape
        self.size = (max(height, LEAST_SIDE), max(width, LEAST_SIDE))
        self.network = create_classifier(
            model, num_classes, channels + 1, image_size=self.size, seed=seed
        )

    def forward(self, x_t: Tensor, noise: Tensor) -> Tensor:
        """(N, num_classes) of samples (N, C, h, w) and their shares of noise (N,)."""
        if x_t.shape[2:] != self.size:
            x_t = functional.interpolate(x_t, self.size, mode="nearest")
        told = (2 * noise - 1).view(-1, 1, 1, 1).expand(-1, 1, *self.size)
        logits: Tensor = self.network(torch.cat([x_t, told.to(x_t.dtype)], 1))
        return logits.float()


@dataclass(frozen=True, slots=True)
class NoisyLogProbability:
    """log p(index | x_t, noise). Inputs: `index` and `noise`, (N,)."""

    network: nn.Module

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        return log_probability_of(self.network(x, inputs["noise"]), inputs["index"])


class NoisyDraws:
    """Samples with noise of levels that are drawn, for training.

    Args:
        levels: to draw from.
        seed: of levels and noises.
    """

    def __init__(self, levels: tuple[NoiseLevel, ...], seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self._levels = levels
        rows = [(each.alpha, each.sigma, noise_share(each)) for each in levels]
        self._table = torch.tensor(rows, dtype=torch.float32)

    def indices(self, count: int, size: int) -> Tensor:
        """Which of `count` samples are in a batch, (size,)."""
        return torch.randint(count, (size,), generator=self.generator)

    def level(self) -> NoiseLevel:
        """One of them."""
        return self._levels[int(torch.randint(len(self._levels), (), generator=self.generator))]

    def draw(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """x_t, each sample at a level of its own, and their shares of noise (N,)."""
        rows = torch.randint(len(self._table), (len(samples),), generator=self.generator)
        alpha, sigma, share = self._table[rows].unbind(1)
        eps = torch.randn(samples.shape, generator=self.generator)
        x_t = alpha.view(-1, 1, 1, 1) * samples + sigma.view(-1, 1, 1, 1) * eps
        return x_t, share
