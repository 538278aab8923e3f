"""What one epoch trains on: its rows in order, and the class prior they amount to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curriculum.mixture import (
    Composition,
    Indices,
    Rows,
    draw,
    epoch_pool,
    generators_of,
    round_all,
)
from curriculum.samplings.base import Sampling
from curriculum.schedules.base import Progress
from curriculum.train_spec import TrainSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """One epoch.

    Attributes:
        pool: the rows it draws from, unordered.
        indices: (num_samples,) rows in training order; rows may repeat.
        class_counts: (num_classes,) float64: the prior that the epoch's samples are drawn under, as
            a number of images; see `Composition` for as what an added one counts.
    """

    pool: Indices
    indices: Indices
    class_counts: Tensor


def plan_epoch(
    rows: Rows,
    mixture: Mapping[int, float],
    spec: TrainSpec,
    sampling: Sampling,
    progress: Progress,
) -> EpochPlan:
    """The epoch's pool, shuffled and cycled, or drawn class by class.

    Every arm of a comparison gets the same number of samples, whatever its data; every cycle
    through the pool has its own order. Same spec and epoch, same plan.
    """
    num_samples = spec.updates_per_epoch * spec.batch_size
    pool = epoch_pool(rows, mixture, spec.composition, spec.seed, progress.epoch)
    rng = generators_of(spec.seed, progress.epoch)[1]
    images = np.bincount(rows.labels[pool], minlength=spec.num_classes)
    weights = _counted(rows, pool, spec.composition)
    counts = np.bincount(rows.labels[pool], weights, spec.num_classes).astype(np.float64)
    shares = sampling.shares(images, progress)
    if shares is None:
        indices = draw(pool, num_samples, rng)
    else:
        indices = _by_class(rows, pool, shares, num_samples, rng)
        # What is drawn, not what is there, is the prior.
        mean = counts / np.maximum(images, 1)
        counts = mean * shares * len(pool)
    return EpochPlan(pool=pool, indices=indices, class_counts=torch.from_numpy(counts))


def _counted(rows: Rows, pool: Indices, composition: Composition) -> NDArray[np.float64]:
    """(len(pool),) as how many images each row counts in the prior."""
    is_real = rows.is_real[pool]
    if composition.added_count is None:
        return np.where(is_real, 1.0, composition.synthetic_weight)
    is_first = np.zeros(len(pool), dtype=np.bool_)
    is_first[np.unique(pool, return_index=True)[1]] = True
    return np.where(is_real & is_first, 1.0, composition.added_count)


def _by_class(
    rows: Rows,
    pool: Indices,
    shares: NDArray[np.float64],
    num_samples: int,
    rng: np.random.Generator,
) -> Indices:
    quotas = round_all({label: share * num_samples for label, share in enumerate(shares.tolist())})
    labels = rows.labels[pool]
    parts = [draw(pool[labels == label], count, rng) for label, count in quotas.items()]
    return rng.permutation(np.concatenate(parts))


def with_partners(
    rows: Rows, indices: Indices, batch_size: int, exponent: float, rng: np.random.Generator
) -> Indices:
    """Behind the rows of each batch as many others, for a mixing; see `Mixing.partner_exponent`.

    They are drawn from all rows given, a multiple of the batch size: nothing else is read.
    """
    labels = rows.labels[indices]
    weights = np.bincount(labels)[labels] ** -float(exponent)
    partners = rng.choice(indices, len(indices), p=weights / weights.sum())
    both = indices.reshape(-1, batch_size), partners.reshape(-1, batch_size)
    return np.concatenate(both, axis=1).ravel()


def uniform_rows(rows: Rows, num_samples: int, seed: int, epoch: int) -> Indices:
    """Real images drawn uniformly, for the short training that a schedule learns from."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch, 1]))
    return draw(np.flatnonzero(rows.is_real), num_samples, rng)
