"""The protocol of the schedule family, and the integer arithmetic its members share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from generators.errors import ConfigError
from generators.records import check_image_guidance

REAL = 100
"""The image-guidance percent of a real image."""

REAL_ONLY: Mapping[int, float] = {REAL: 1.0}
"""The mixture of an epoch without synthetic images."""

Level = Annotated[int, Field(ge=0, le=100)]

Cells = NDArray[np.float64]
"""(num_classes, num_levels): a number for every class at every level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands. Integers, so that stages are cut exactly.

    Attributes:
        epoch: the epoch about to be trained, 0..num_epochs-1.
        num_epochs: of the whole training.
    """

    epoch: int
    num_epochs: int

    def __post_init__(self) -> None:
        assert 0 <= self.epoch < self.num_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSpec:
    """What is measured before each epoch for a schedule that adapts.

    Attributes:
        num_sources: sources whose synthetic images, one a level, are looked at and never trained
            on; as far as there are any with all levels.
        probe_percent: share of an epoch's updates that are made on uniform real images, so that
            progress can be seen.
        by_class: whether progress is kept by class, too; sources are of every class in turn then.
    """

    num_sources: int
    probe_percent: int
    by_class: bool = False


class CurriculumSchedule(Protocol):
    """Which synthetic images an epoch sees: a pure function of progress and feedback."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The image-guidance percents it wants images of, ascending; empty for none.

        100 stands for copies of the hard real images.
        """

    @property
    def feedback(self) -> FeedbackSpec | None:
        """What must be measured for it; None where epochs alone decide."""

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Shares of the levels among the epoch's synthetic images.

        Args:
            progress: the epoch to plan.
            feedback: image-guidance percent to progress made on it, for adaptive schedules; empty
                where the curriculum is only drawn or planned.

        Returns:
            Image-guidance percent to weight; weights are >= 0 and sum to 1. `{100: 1.0}` means
            real data only.

        Raises:
            ConfigError: fewer epochs than the schedule has stages.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSchedule:
    """What schedules of several levels have in common; most need no feedback.

    Attributes:
        levels: image-guidance percents, 0..100; ascending, whatever order they are given in.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.

    Raises:
        ConfigError: levels that are no percent, repeated or none at all.
    """

    levels: tuple[Level, ...] = (0, 20, 40, 60, 80)
    real_percent: Annotated[int, Field(ge=0, le=99)] = 10

    def __post_init__(self) -> None:
        check_levels(self.levels, f"{type(self).__module__.rpartition('.')[2]}.levels")
        object.__setattr__(self, "levels", tuple(sorted(self.levels)))

    @property
    def feedback(self) -> FeedbackSpec | None:
        """None: epochs alone decide."""
        return None


@runtime_checkable
class GenerationSchedule(CurriculumSchedule, Protocol):
    """A schedule that also decides what is generated next, by what trainings have measured."""

    def shares(self, gains: Cells, is_open: NDArray[np.bool_]) -> Cells:
        """How a budget of model evaluations is shared between cells: classes at levels.

        Args:
            gains: (num_classes, num_levels) progress; NaN where none was measured.
            is_open: (num_classes, num_levels) True where images are missing still.

        Returns:
            Shares >= 0, of open cells alone, that sum to 1 where any is open.
        """


def check_levels(levels: tuple[int, ...], at: str) -> None:
    """Refuses levels that are no percent, repeated or none at all.

    Raises:
        ConfigError: naming `at`.
    """
    for level in levels:
        check_image_guidance(level, at)
    if not levels or len(set(levels)) != len(levels):
        raise ConfigError(at, levels, "one or more different integer percents in 0..100")


def num_real_epochs(num_epochs: int, real_percent: int) -> int:
    """Epochs on real data alone at the end: the share rounded down, but at least 1 unless 0 %."""
    return max(1, num_epochs * real_percent // 100) if real_percent else 0


def stage_of(progress: Progress, real_percent: int, num_stages: int) -> int | None:
    """Stage of an epoch; None in the last, real-data part.

    Stages are of equal length, the remainder goes to the early ones, one epoch each.

    Raises:
        ConfigError: fewer epochs than stages.
    """
    real = num_real_epochs(progress.num_epochs, real_percent)
    num_curriculum_epochs = progress.num_epochs - real
    if num_curriculum_epochs < num_stages:
        allowed = f"at least {num_stages + real} ({num_stages} levels, {real} on real data)"
        raise ConfigError("epochs", progress.num_epochs, allowed)
    if is_real_epoch(progress, real_percent):
        return None
    length, longer = divmod(num_curriculum_epochs, num_stages)
    split = longer * (length + 1)
    if progress.epoch < split:
        return progress.epoch // (length + 1)
    return longer + (progress.epoch - split) // length


def is_real_epoch(progress: Progress, real_percent: int) -> bool:
    """Whether an epoch belongs to the last, real-data part."""
    return progress.epoch >= progress.num_epochs - num_real_epochs(
        progress.num_epochs, real_percent
    )


def timeline(schedule: CurriculumSchedule, num_epochs: int) -> tuple[Mapping[int, float], ...]:
    """The mixtures of all epochs without feedback: the curriculum as a plot, without training.

    Raises:
        ConfigError: the schedule does not fit the number of epochs.
    """
    steps = (Progress(epoch=epoch, num_epochs=num_epochs) for epoch in range(num_epochs))
    return tuple(schedule.mixture(progress, {}) for progress in steps)


def levels_read(schedule: CurriculumSchedule, num_epochs: int) -> tuple[frozenset[int], ...]:
    """The levels whose images each epoch reads: none where it is real data only.

    A schedule that needs feedback may read any of its levels in any epoch.
    """
    mixtures = timeline(schedule, num_epochs)
    if schedule.feedback:
        return (frozenset(schedule.levels),) * num_epochs
    return tuple(
        frozenset(_weighted(mixture)) if dict(mixture) != dict(REAL_ONLY) else frozenset()
        for mixture in mixtures
    )


def levels_in_order_of_use(
    schedules: Iterable[CurriculumSchedule], num_epochs: int
) -> tuple[int, ...]:
    """The levels that schedules want images of and give weight to, the first schedule's first.

    Level 100 is among them only where a schedule names it: real data needs no images.
    """
    order: dict[int, None] = {}
    for schedule in schedules:
        for mixture in timeline(schedule, num_epochs):
            order |= dict.fromkeys(x for x in _weighted(mixture) if x in schedule.levels)
        if schedule.feedback:
            order |= dict.fromkeys(schedule.levels)
    return tuple(order)


def _weighted(mixture: Mapping[int, float]) -> list[int]:
    return sorted(level for level, weight in mixture.items() if weight > 0)
