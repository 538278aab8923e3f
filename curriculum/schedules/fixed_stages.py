"""DisCL's non-adaptive curriculum, diverse to specific (Liang et al. 2024, arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    LevelSchedule,
    Progress,
    stage_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedStages(LevelSchedule):
    """One level after the other for equal numbers of epochs, then real data only.

    With E_CL curriculum epochs and L levels, a level gets E_CL // L epochs; the remainder goes to
    the early levels, one epoch each. A stage at level 100 is an epoch of real data.

    Attributes:
        levels: image-guidance percents, 0..100.
        order: `ascending` goes from diverse images to ones close to the real, `descending` back.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    order: Literal["ascending", "descending"] = "ascending"

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The level of the epoch's stage, alone."""
        stage = stage_of(progress, self.real_percent, len(self.levels))
        if stage is None:
            return REAL_ONLY
        order = self.levels if self.order == "ascending" else self.levels[::-1]
        return {order[stage]: 1.0}


METHOD: Final[type[CurriculumSchedule]] = FixedStages
