"""Oversampling alone: the hard real images repeat (DisCL's code's `repeat`; arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from curriculum.schedules.base import REAL_ONLY, CurriculumSchedule, FeedbackSpec, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """No synthetic image: `tail_share`, which it needs, is filled with the hard real ones again."""

    @property
    def levels(self) -> tuple[int, ...]:
        """None."""
        return ()

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Nothing changes."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """Real data, in every epoch."""
        return REAL_ONLY


METHOD: Final[type[CurriculumSchedule]] = Repeat
