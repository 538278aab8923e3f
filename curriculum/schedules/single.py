"""One level only: the ablation "fixed level" of DisCL (arXiv:2410.13674)."""

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
class Single:
    """The same level in every epoch.

    Attributes:
        level: image-guidance percent, 0..100.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    level: Level = 40
    real_percent: Annotated[int, Field(ge=0, le=99)] = 0

    def __post_init__(self) -> None:
        check_levels((self.level,), "single.level")

    @property
    def levels(self) -> tuple[int, ...]:
        """The one level."""
        return (self.level,)

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Epochs alone decide."""
        return None

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The level alone, or real data only at the end."""
        return REAL_ONLY if is_real_epoch(progress, self.real_percent) else {self.level: 1.0}


METHOD: Final[type[CurriculumSchedule]] = Single
