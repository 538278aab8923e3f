"""Targets, the table of what was measured, and the line for machines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from benchmarks.engine_parts.measure import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a measurement should reach.

    Attributes:
        name: of the measurement.
        label: for people.
        value: at least so much; at most, of growth.
        printed: whether the name is a key of the last line.
    """

    name: str
    label: str
    value: float
    printed: bool = True

    @property
    def is_growth(self) -> bool:
        """Less is better."""
        return self.name == "memory_growth"

    def met_by(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio < self.value if self.is_growth else ratio >= self.value

    def shown(self, ratio: float) -> str:
        """A ratio as text."""
        return f"{ratio:.1%}" if self.is_growth else f"{ratio:.3f}"


TARGETS = (
    Target(name="engine_over_bare_large", label="engine / bare forward, large rows", value=0.97),
    Target(name="engine_over_bare_tiny", label="engine / bare forward, 8x8 rows", value=0.75),
    Target(name="over_diffusers_tiny", label="images/s / diffusers, tiny latent SD", value=1.3),
    Target(
        name="over_diffusers_few_step",
        label="images/s / diffusers, tiny latent SD, 4 steps",
        value=1.3,
        printed=False,
    ),
    Target(name="over_diffusers_large", label="images/s / diffusers, compute-bound", value=1.1),
    Target(
        name="lazy_over_diffusers_tiny",
        label="3 of 10 levels / diffusers, tiny latent SD",
        value=3.0,
        printed=False,
    ),
    Target(
        name="lazy_over_diffusers_large",
        label="3 of 10 levels / diffusers, compute-bound",
        value=3.0,
        printed=False,
    ),
    Target(
        name="compiled_over_diffusers_tiny",
        label="the same, our network compiled: tiny",
        value=1.3,
        printed=False,
    ),
    Target(
        name="compiled_over_diffusers_few_step",
        label="the same, our network compiled: 4 steps",
        value=1.3,
        printed=False,
    ),
    Target(
        name="compiled_over_diffusers_large",
        label="the same, our network compiled: compute-bound",
        value=1.1,
        printed=False,
    ),
    Target(name="over_discl_loop_tiny", label="images/s / DisCL's loop, tiny", value=3.0),
    Target(name="over_discl_loop_large", label="images/s / DisCL's loop, compute-bound", value=1.5),
    Target(
        name="compiled_over_discl_loop_tiny",
        label="the same, our network compiled: tiny",
        value=3.0,
        printed=False,
    ),
    Target(
        name="compiled_over_discl_loop_large",
        label="the same, our network compiled: compute-bound",
        value=1.5,
        printed=False,
    ),
    Target(
        name="lazy_over_discl_loop_tiny",
        label="3 of 10 levels / DisCL's loop, tiny",
        value=3.0,
        printed=False,
    ),
    Target(
        name="lazy_over_discl_loop_large",
        label="3 of 10 levels / DisCL's loop, compute-bound",
        value=3.0,
        printed=False,
    ),
    Target(name="mean_batch_fill", label="rows a batch / batch size, mixed levels", value=0.95),
    Target(
        name="two_actors_over_two_processes",
        label="two actors / two bare processes",
        value=0.95,
    ),
    Target(name="memory_growth", label="growth of a worker's peak memory", value=0.05),
)


def results_table(measurements: Mapping[str, Measurement]) -> Table:
    """One row a target that was measured."""
    table = Table(title="Engine benchmark: medians, with the smallest and largest repetition")
    for column in ("what", "measured", "range", "target", "met"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for target in TARGETS:
        if target.name not in measurements:
            continue
        found = measurements[target.name]
        spread, bound = found["ratios"], "<" if target.is_growth else ">="
        met = target.met_by(found["ratio"])
        table.add_row(
            target.label,
            target.shown(found["ratio"]),
            f"{target.shown(spread['min'])} .. {target.shown(spread['max'])}",
            f"{bound} {target.shown(target.value)}",
            "[green]yes" if met else "[red]no",
        )
    return table


def last_line(measurements: Mapping[str, Measurement]) -> str:
    """JSON of the printed ratios."""
    names = [target.name for target in TARGETS if target.printed]
    return json.dumps({name: round(measurements[name]["ratio"], 4) for name in names})
