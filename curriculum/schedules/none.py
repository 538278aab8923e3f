"""No synthetic images: the baseline of every comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from curriculum.schedules.base import REAL_ONLY, CurriculumSchedule, FeedbackSpec, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RealOnly:
    """Real data in every epoch; no synthetic images."""

    @property
    def levels(self) -> tuple[int, ...]:
        """None are wanted."""
        return ()

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Epochs alone decide."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Real data only."""
        return REAL_ONLY


METHOD: Final[type[CurriculumSchedule]] = RealOnly
