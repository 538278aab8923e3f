"""The protocol of the guidance-fit family: a guidance method uses what one leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning
from generators.steering.sampling import conditionings, predict_rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Materials:
    """What a fit may look at.

    Attributes:
        models: the network that will be guided, the classes of the data set, the noise levels that
            the run will visit, and a place to open classifiers.
        samples: (N, C, h, w) float32 real training images, encoded for the network, on the CPU.
        labels: (N,) int64, classes of the data set.
        num_inference_steps: of the run.
        batch_size: most rows in one evaluation.
        seed: of all that is drawn.
    """

    models: Models
    samples: Tensor
    labels: Tensor
    num_inference_steps: int
    batch_size: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FitStep:
    """How far a fit is.

    Attributes:
        done: of `total` steps.
        loss: what is minimised, or the score of a search; None before it is known.
    """

    done: int
    total: int
    loss: float | None = None


class GuidanceFit(Protocol):
    """Learns or searches once, from real images or from the network alone."""

    def check(self, materials: Materials) -> None:
        """Finds what does not fit, before any work.

        Raises:
            ConfigError: a parameter that does not.
            CheckpointError: a file that cannot be read.
        """

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Yields as it goes on; writes one file, as `save_fit` does, to `path` at the end."""


def denoised(
    materials: Materials, level: NoiseLevel, draw: int, given: Conditioning | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What the network makes of all images at a level: clean samples, noises, and the true noises.

    Args:
        materials: with the images.
        level: of the noise.
        draw: number of the noise; another one, other noise.
        given: conditioning of all; None for each image's own class.

    Returns:
        (N, C, h, w) each; the true noises are on the CPU.
    """
    models, x_0 = materials.models, materials.samples
    generator = torch.Generator().manual_seed((materials.seed << 16) + draw)
    eps = torch.randn(x_0.shape, generator=generator)
    x_t = (level.alpha * x_0 + level.sigma * eps).to(models.backbone.device)
    conds = conditionings(models, materials.labels) if given is None else [given] * len(x_0)
    return *predict_rows(models, x_t, level, conds, materials.batch_size), eps
