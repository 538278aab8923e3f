"""Which rows an epoch trains on, and in which order. A pure function; reads no image.

The composition of an epoch is DisCL's (Liang et al. 2024, arXiv:2410.13674, and its code):
synthetic images of the epoch's levels, all hard real images, a part of the other real images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curriculum.schedules.base import REAL, REAL_ONLY
from generators.errors import DataError

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """What is known of each image without reading it. All arrays are (N,).

    Attributes:
        labels: class indices.
        levels: image-guidance percents; 100 for real images and for copies of them.
        is_real: True for real images.
        is_tail: True for real images of the hard set; not looked at for synthetic images, which
            all belong to the tail's side.
        is_held_out: True for synthetic images that are not trained on: those an adaptive schedule
            looks at. None: none is.
    """

    labels: Indices
    levels: Indices
    is_real: Mask
    is_tail: Mask
    is_held_out: Mask | None = None

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.levels) == len(self.is_real) == len(self.is_tail)

    def __len__(self) -> int:
        return len(self.labels)

    def held_out(self) -> Indices:
        """Rows that are not trained on."""
        return np.flatnonzero(~self.trained())

    def trained(self) -> Mask:
        """(N,) True for rows that may be trained on."""
        if self.is_held_out is None:
            return np.ones(len(self), dtype=np.bool_)
        return ~self.is_held_out

    def fingerprint(self) -> str:
        """Content hash of what is known of the images without reading them."""
        digest = hashlib.sha256()
        for column in (self.labels, self.levels, self.is_real, self.is_tail):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @classmethod
    def real(cls, labels: Indices, is_tail: Mask | None = None) -> "Rows":
        """Rows of real images only; without `is_tail`, none is hard."""
        return cls(
            labels=labels,
            levels=np.full(len(labels), REAL, dtype=np.int64),
            is_real=np.ones(len(labels), dtype=np.bool_),
            is_tail=np.zeros(len(labels), dtype=np.bool_) if is_tail is None else is_tail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """How much of the epoch's pool the tail and the head get.

    Attributes:
        tail_share: share of the pool that is hard real or synthetic, in (0, 1); None takes what
            there is. DisCL uses 0.136.
        head_keep: share of the other real images kept, in (0, 1], drawn anew every epoch. DisCL
            uses 0.3.
        synthetic_weight: of a synthetic image's loss; a real one's is 1. DiffuLT uses 0.3.
        added_count: as how many real images a synthetic one, or a repetition of a real one, counts
            in the class prior that losses correct for; None counts it by its weight. Counted in
            full, what is added to the tail takes the correction from it; the less it counts, the
            more of the head's accuracy goes to the tail. 0 is the prior of the real images alone.
    """

    tail_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    head_keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    synthetic_weight: Annotated[float, Field(ge=0)] = 1.0
    added_count: Annotated[float, Field(ge=0, le=1)] | None = None


def epoch_pool(
    rows: Rows, mixture: Mapping[int, float], composition: Composition, seed: int, epoch: int
) -> Indices:
    """The rows an epoch is drawn from, unordered; rows may repeat.

    With a tail share, the tail's side has exactly `round(share / (1 - share) * heads)` rows: hard
    real images first, then synthetic ones in the mixture's proportions; where there are none,
    hard real images repeat (plain oversampling). Without, it has all hard real images and
    `sum_l weight_l * n_l` synthetic ones. A level without images gives its weight to the others.

    Raises:
        DataError: there is no real image.
    """
    rng = generators_of(seed, epoch)[0]
    heads = np.flatnonzero(rows.is_real & ~rows.is_tail)
    tails = np.flatnonzero(rows.is_real & rows.is_tail)
    if len(heads) + len(tails) == 0:
        raise DataError("there is no real image to train on")
    if len(heads):
        heads = draw(heads, max(1, round(composition.head_keep * len(heads))), rng)
    synthetic = _synthetic_rows(rows, mixture, tails)
    share = composition.tail_share
    if share is None or len(heads) == 0:  # a share of nothing cannot be kept
        counts = {
            level: synthetic[level][1] * len(found) for level, (found, _) in synthetic.items()
        }
        drawn = _draw_levels(synthetic, round_all(counts), rng)
        return np.concatenate([heads, tails, drawn])
    wanted = round(share / (1 - share) * len(heads))
    originals = draw(tails, wanted, rng) if len(tails) > wanted or not synthetic else tails
    missing = wanted - len(originals)
    quotas = round_all({level: weight * missing for level, (_, weight) in synthetic.items()})
    return np.concatenate([heads, originals, _draw_levels(synthetic, quotas, rng)])


def generators_of(seed: int, epoch: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Independent generators of the pool and of its order."""
    pool, order = np.random.SeedSequence([seed, epoch]).spawn(2)
    return np.random.default_rng(pool), np.random.default_rng(order)


def _synthetic_rows(
    rows: Rows, mixture: Mapping[int, float], tails: Indices
) -> dict[int, tuple[Indices, float]]:
    """Level to its rows and its weight, levels without rows left out, weights summing to 1."""
    if dict(mixture) == dict(REAL_ONLY):
        return {}
    found: dict[int, tuple[Indices, float]] = {}
    synthetic = ~rows.is_real & rows.trained()
    for level in sorted(mixture):
        members = np.flatnonzero(synthetic & (rows.levels == level))
        if level == REAL and len(members) == 0:
            members = tails  # copies of real images need not be stored twice
        if len(members) and mixture[level] > 0:
            found[level] = (members, mixture[level])
    total = sum(weight for _, weight in found.values())
    return {level: (members, weight / total) for level, (members, weight) in found.items()}


def _draw_levels(
    synthetic: Mapping[int, tuple[Indices, float]],
    quotas: Mapping[int, int],
    rng: np.random.Generator,
) -> Indices:
    parts = [draw(synthetic[level][0], quotas[level], rng) for level in synthetic]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def draw(members: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` members in random order; each appears once before any appears twice."""
    if count == 0 or len(members) == 0:
        return np.empty(0, dtype=np.int64)
    cycles = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(cycles)[:count]


def round_all(values: Mapping[int, float]) -> dict[int, int]:
    """Integers that add up to the rounded sum (largest remainders); ties go to low levels."""
    # Weights like 1/3 leave crumbs of 1e-16 that must not decide between remainders.
    exact = {level: round(value, 9) for level, value in values.items()}
    counts = {level: int(value) for level, value in exact.items()}
    missing = round(sum(exact.values())) - sum(counts.values())
    by_remainder = sorted(exact, key=lambda level: (counts[level] - exact[level], level))
    for level in by_remainder[:missing]:
        counts[level] += 1
    return counts
