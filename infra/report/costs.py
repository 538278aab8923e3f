"""What an accepted image costs, in all and by level: worker seconds, model evaluations, money.

Refused and failed images are paid for by the accepted ones. Judging and training are not in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from generators.registry import JsonValue
from infra.report.counts import level_facts
from infra.report.facts import GenerationCost, Spending

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCost:
    """What some accepted images cost.

    Attributes:
        accepted: images.
        spent: on them, and on those that were not accepted.
        price_per_hour: of one worker, in any currency; None where it is not known.
    """

    accepted: int
    spent: Spending
    price_per_hour: float | None

    @property
    def price(self) -> float | None:
        """Of all of them, in the currency of `price_per_hour`."""
        if self.price_per_hour is None:
            return None
        return self.spent.seconds / HOUR * self.price_per_hour

    def each(self, value: float | None) -> float | None:
        """A value for one accepted image; None where there is none."""
        return None if value is None or not self.accepted else value / self.accepted

    def as_json(self) -> dict[str, JsonValue]:
        """As `schema.COST` documents it."""
        return {
            "accepted": self.accepted,
            "worker_seconds": self.spent.seconds,
            "model_evaluations": self.spent.model_calls,
            "price": self.price,
            "per_accepted": {
                "worker_seconds": self.each(self.spent.seconds),
                "model_evaluations": self.each(self.spent.model_calls),
                "price": self.each(self.price),
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The costs of a run.

    Attributes:
        all: of its images.
        levels: image guidance, ascending, to the cost of its images.
    """

    all: ImageCost
    levels: dict[int, ImageCost]

    def as_json(self) -> dict[str, JsonValue]:
        """As `schema.COSTS` documents it."""
        levels = [
            {"image_guidance": level, **cost.as_json()} for level, cost in self.levels.items()
        ]
        return {**self.all.as_json(), "levels": levels}


def image_costs(cost: GenerationCost, manifest: pa.Table) -> Costs:
    """What the accepted images of a manifest cost."""
    accepted = {level.image_guidance: level.fates.accepted for level in level_facts(manifest)}
    nothing = Spending(seconds=0.0, model_calls=0)
    levels = {
        level: ImageCost(
            accepted=count,
            spent=cost.levels.get(level, nothing),
            price_per_hour=cost.price_per_hour,
        )
        for level, count in accepted.items()
    }
    spent = Spending(seconds=cost.seconds, model_calls=cost.model_calls)
    total = sum(accepted.values())
    return Costs(
        all=ImageCost(accepted=total, spent=spent, price_per_hour=cost.price_per_hour),
        levels=levels,
    )


def summed(costs: Iterable[Spending]) -> Spending:
    """All of them together."""
    found = list(costs)
    return Spending(
        seconds=sum(cost.seconds for cost in found),
        model_calls=sum(cost.model_calls for cost in found),
    )
