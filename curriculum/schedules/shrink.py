"""Levels that drop out from below (DisCL's code's `shrink`; arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    LevelSchedule,
    Progress,
    stage_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink(LevelSchedule):
    """All levels in equal shares, the lowest of which leaves after each stage, then real data.

    Stages are as long as those of `fixed_stages`: equal, the remainder to the early ones.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Uniform weights over the levels that are left."""
        stage = stage_of(progress, self.real_percent, len(self.levels))
        if stage is None:
            return REAL_ONLY
        left = self.levels[stage:]
        return {level: 1 / len(left) for level in left}


METHOD: Final[type[CurriculumSchedule]] = Shrink
