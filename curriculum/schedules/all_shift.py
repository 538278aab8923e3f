"""All levels at once, then real data only (DisCL's code's `all_shift`; arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from curriculum.schedules.base import (
    CurriculumSchedule,
    FeedbackSpec,
    Level,
    Progress,
    check_levels,
)
from curriculum.schedules.mixed import Mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class AllShift:
    """`mixed`, with an end on real data.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 1..99; at least one epoch.
    """

    levels: tuple[Level, ...] = (0, 20, 40, 60, 80)
    real_percent: Annotated[int, Field(ge=1, le=99)] = 10

    def __post_init__(self) -> None:
        check_levels(self.levels, "all_shift.levels")
        object.__setattr__(self, "levels", tuple(sorted(self.levels)))

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Epochs alone decide."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """As `mixed` has it."""
        same = Mixed(levels=self.levels, real_percent=self.real_percent)
        return same.mixture(progress, feedback)


METHOD: Final[type[CurriculumSchedule]] = AllShift
