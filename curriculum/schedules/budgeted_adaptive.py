"""DisCL's adaptive curriculum, which also decides what to generate next, under a budget.

The signal is the one of `adaptive` (Liang et al. 2024, arXiv:2410.13674, section 3.3), measured for
every class at every level: that it directs the generation is ours.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curriculum.schedules.adaptive import Adaptive
from curriculum.schedules.base import Cells, CurriculumSchedule, FeedbackSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedAdaptive(Adaptive):
    """Trains as `adaptive`; `discl top-up` spends its budget on the cells that teach most.

    A cell is a class at a level. Its gain is the mean over the epochs, and over the trainings of
    the version before, of what a short training on real images was worth on held-out images.

    Attributes:
        levels: image-guidance percents, 0..100.
        num_held_out: sources whose images, one a level, are looked at and not trained on; of every
            class in turn.
        probe_percent: see `adaptive`.
        real_percent: see `adaptive`.
        explore_percent: share of a budget that is spread evenly over all cells, 0..100; the rest is
            shared in proportion to gains. 100 never looks at them.
    """

    num_held_out: Annotated[int, Field(ge=1)] = 50
    explore_percent: Annotated[int, Field(ge=0, le=100)] = 20

    @property
    def feedback(self) -> FeedbackSpec | None:
        """Gains by level for the training, by class and level for the generation."""
        return FeedbackSpec(
            num_sources=self.num_held_out, probe_percent=self.probe_percent, by_class=True
        )

    def shares(self, gains: Cells, is_open: NDArray[np.bool_]) -> Cells:
        """An even part, and one in proportion to gains; all even where no gain is positive."""
        even: Cells = is_open / max(1, int(is_open.sum()))
        known = np.nan_to_num(gains, nan=_mean(gains))
        worth = np.where(is_open, np.maximum(known, 0.0), 0.0)
        if worth.sum() == 0:
            return even
        explore = self.explore_percent / 100
        shares: Cells = explore * even + (1 - explore) * worth / worth.sum()
        return shares


def _mean(gains: Cells) -> float:
    """Of the measured gains: what a cell that was not measured is taken to be worth."""
    measured = gains[~np.isnan(gains)]
    return float(measured.mean()) if len(measured) else 0.0


METHOD: Final[type[CurriculumSchedule]] = BudgetedAdaptive
