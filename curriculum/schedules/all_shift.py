"""All levels at once, then real data only (DisCL's code's `all_shift`; arXiv:2410.13674)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from curriculum.schedules.base import CurriculumSchedule
from curriculum.schedules.mixed import Mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class AllShift(Mixed):
    """`mixed`, with an end on real data.

    Attributes:
        levels: image-guidance percents, 0..100.
        real_percent: last share of the epochs on real data only, 1..99; at least one epoch.
    """

    real_percent: Annotated[int, Field(ge=1, le=99)] = 10


METHOD: Final[type[CurriculumSchedule]] = AllShift
