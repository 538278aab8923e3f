"""The protocol of the guidance-fit family: a method of the same name uses what one leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from generators.models import Models


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Materials:
    """What a fit may look at.

    Attributes:
        models: the network that will be guided, the classes of the data set, and a place to open
            classifiers.
        pixels: (N, channels, H, W) uint8 real training images on the CPU, of the network's size.
        labels: (N,) int64.
        num_inference_steps: of the run.
        batch_size: most rows in one evaluation.
        seed: of all that is drawn.
    """

    models: Models
    pixels: Tensor
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
        """Yields as it goes on; writes one safetensors file to `path` at the end.

        The file's metadata says which network and settings it belongs to; the guidance method
        refuses it for another network.
        """
