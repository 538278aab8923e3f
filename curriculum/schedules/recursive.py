"""DisCL's sweep up and down the levels (its code's `recursive`; arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    FeedbackSpec,
    Level,
    Progress,
    check_levels,
    is_real_epoch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recursive:
    """One level an epoch: from the lowest up to the highest, back down, and so on.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    levels: tuple[Level, ...] = (0, 20, 40, 60, 80)
    real_percent: Annotated[int, Field(ge=0, le=99)] = 10

    def __post_init__(self) -> None:
        check_levels(self.levels, "recursive.levels")
        object.__setattr__(self, "levels", tuple(sorted(self.levels)))

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Epochs alone decide."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The level that the sweep has reached, alone; each end once a turn."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        top = len(self.levels) - 1
        step = progress.epoch % (2 * top) if top else 0
        return {self.levels[min(step, 2 * top - step)]: 1.0}


METHOD: Final[type[CurriculumSchedule]] = Recursive
