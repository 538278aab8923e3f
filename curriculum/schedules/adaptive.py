"""DisCL's adaptive curriculum: the level that teaches most now (arXiv:2410.13674, section 3.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    FeedbackSpec,
    LevelSchedule,
    Progress,
    is_real_epoch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(LevelSchedule):
    """Each epoch the level on whose held-out images a short training on real ones gained most.

    Without any such image, all levels at once.

    Attributes:
        levels: image-guidance percents, 0..100.
        num_held_out: sources whose images, one a level, are looked at and not trained on.
        probe_percent: share of an epoch's updates that are made on uniform real images to see the
            gain; the others are on the level.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    num_held_out: Annotated[int, Field(ge=1)] = 100
    probe_percent: Annotated[int, Field(ge=1, le=99)] = 20

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Gains by level."""
        return FeedbackSpec(num_sources=self.num_held_out, probe_percent=self.probe_percent)

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The level of the largest gain, the lowest of equal ones."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        known = {level: feedback[level] for level in self.levels if level in feedback}
        if not known:
            return {level: 1 / len(self.levels) for level in self.levels}
        return {max(known, key=lambda level: (known[level], -level)): 1.0}


METHOD: Final[type[CurriculumSchedule]] = Adaptive
