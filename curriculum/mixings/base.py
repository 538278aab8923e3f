"""The protocol of the mixing family."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixContext:
    """What a mixing may know beside the batch.

    Attributes:
        class_counts: (num_classes,) int64, images a class in the epoch's pool.
        progress: share of the training that is done, 0 <= progress < 1.
        rng: of this batch.
    """

    class_counts: Tensor
    progress: float
    rng: np.random.Generator


class Mixing(Protocol):
    """Mixes the images of a batch with one another, or with partners that are drawn for it."""

    @property
    def partner_exponent(self) -> float | None:
        """As many partners as a batch has images, an image by (1 / n)^exponent of its class.

        n are the epoch's samples of the class: 0 draws them as they are, 1 all classes alike.
        None: no partners.
        """

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """Mixed images and their targets.

        Args:
            images: (N, C, H, W), in random order; (2 N, C, H, W) with the partners behind the batch
                if there are any.
            labels: (N,) or (2 N,) int64.
            context: of the batch.

        Returns:
            Images (N, C, H, W), and labels (N,), unchanged, or soft targets (N, num_classes) whose
            rows sum to 1.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinBatch:
    """What mixings of a batch with itself have in common."""

    @property
    def partner_exponent(self) -> None:
        """No partners."""
        return None


def one_hot(labels: Tensor, like: Tensor, context: MixContext) -> Tensor:
    """(N, num_classes) of `like`'s type."""
    return functional.one_hot(labels, len(context.class_counts)).to(like.dtype)


def draw_box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """(top, bottom, left, right) of a random box of this share of the area, cut at the edges.

    CutMix's (Yun et al. 2019, arXiv:1905.04899, Eq. 2): sides sqrt(share), centre uniform.
    """
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, left = max(0, y - tall // 2), max(0, x - wide // 2)
    bottom, right = min(height, y - tall // 2 + tall), min(width, x - wide // 2 + wide)
    return top, bottom, left, right
