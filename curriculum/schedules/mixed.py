"""All levels at once: the ablation "all levels mixed" of DisCL (arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    LevelSchedule,
    Progress,
    is_real_epoch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed(LevelSchedule):
    """All levels in equal shares, in every epoch.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    real_percent: Annotated[int, Field(ge=0, le=99)] = 0

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Uniform weights, or real data only at the end."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        return {level: 1 / len(self.levels) for level in self.levels}


METHOD: Final[type[CurriculumSchedule]] = Mixed
