"""A level drawn anew for each epoch: the ablation "random level" of DisCL (arXiv:2410.13674)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    LevelSchedule,
    Progress,
    is_real_epoch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomLevel(LevelSchedule):
    """One level an epoch, in a random order that is another one each time round.

    Attributes:
        levels: image-guidance percents, 0..100.
        seed: of the draws; the same for all trainings, so that they read the same images.
        real_percent: last share of the epochs on real data only, 0..99; at least one epoch
            unless 0.
    """

    seed: Annotated[int, Field(ge=0)] = 0

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        """The drawn level, alone."""
        if is_real_epoch(progress, self.real_percent):
            return REAL_ONLY
        turn, step = divmod(progress.epoch, len(self.levels))
        order = np.random.default_rng([self.seed, turn]).permutation(self.levels)
        return {int(order[step]): 1.0}


METHOD: Final[type[CurriculumSchedule]] = RandomLevel
