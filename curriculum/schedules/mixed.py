"""All levels at once: the ablation "all levels mixed" of DisCL (arXiv:2410.13674)."""

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
class Mixed:
    """All levels in equal shares, in every epoch.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    levels: tuple[Level, ...] = (0, 20, 40, 60, 80)
    real_percent: Annotated[int, Field(ge=0, le=99)] = 0

    def __post_init__(self) -> None:
        check_levels(self.levels, "mixed.levels")
        object.__setattr__(self, "levels", tuple(sorted(self.levels)))

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Epochs alone decide."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Uniform weights, or real data only at the end."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        return {level: 1 / len(self.levels) for level in self.levels}


METHOD: Final[type[CurriculumSchedule]] = Mixed
