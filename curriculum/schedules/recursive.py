"""DisCL's sweep up and down the levels (its code's `recursive`; arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    LevelSchedule,
    Progress,
    is_real_epoch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recursive(LevelSchedule):
    """One level an epoch: from the lowest up to the highest, back down, and so on.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The level that the sweep has reached, alone; each end once a turn."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        top = len(self.levels) - 1
        step = progress.epoch % (2 * top) if top else 0
        return {self.levels[min(step, 2 * top - step)]: 1.0}


METHOD: Final[type[CurriculumSchedule]] = Recursive
