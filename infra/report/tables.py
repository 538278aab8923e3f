"""The tables of a report as rows of plain values. Knows no HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curriculum.compare import Comparison, Estimate, compare_classes, estimate
from infra.config.schema import BASELINE, CURRICULUM
from infra.report.comparison_figures import arm_variable, class_order
from infra.report.counts import (
    accepted_by_class,
    requested_by_class,
)
from infra.report.facts import METRICS, RunFacts, StageTime
from infra.report.svg import level_variable
from infra.report.wording import METRIC_NAMES, arm, digits_of, interval, number, signed

MOST_MATRIX_ROWS = 40
MOST_REJECTED_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number with what stands small beside it; `mark` is `best`, `better`, `worse` or empty."""

    value: str
    note: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """An arm in a table: name, CSS colour variable, what it is, and its numbers."""

    name: str
    color: str
    about: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTable:
    """Column titles and one row an arm."""

    titles: tuple[str, ...]
    rows: tuple[ArmRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """A class before and after."""

    name: str
    shots: str
    real: int
    synthetic: int
    before: Cell
    after: Cell
    gain: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixCell:
    """Images of one class at one level; `share` is accepted / requested in percent."""

    accepted: int
    requested: int
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """Acceptance of one class by level, levels descending; None where none were asked for."""

    name: str
    cells: tuple[MatrixCell | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """A stage with its share of the longest stage, percent, and its rate a second."""

    time: StageTime
    share: float
    rate: float | None


def comparison_table(facts: RunFacts) -> ArmTable:
    """Every arm's means with half the interval's width; the best of each column is marked."""
    metrics = _measured(facts)
    means = {
        (name, metric): estimate([v for v in facts.values(name, metric) if v is not None])
        for name in facts.arms
        for metric in metrics
    }
    best = {metric: _best(facts, metric) for metric in metrics}
    return ArmTable(
        titles=tuple(METRIC_NAMES[metric] for metric in metrics),
        rows=tuple(
            _arm_row(
                facts,
                name,
                [
                    _mean_cell(means[name, metric], metric, name in best[metric])
                    for metric in metrics
                ],
            )
            for name in facts.arms
        ),
    )


def gain_table(facts: RunFacts) -> ArmTable:
    """Every arm's differences to the baseline with intervals."""
    metrics = _measured(facts)
    rows = []
    for name in facts.arms:
        if name != BASELINE:
            versus = facts.versus(name)
            cells = [_gain_cell(versus[metric], digits_of(metric)) for metric in metrics]
            rows.append(_arm_row(facts, name, cells))
    return ArmTable(titles=tuple(METRIC_NAMES[metric] for metric in metrics), rows=tuple(rows))


def class_table(facts: RunFacts, manifest: pa.Table) -> tuple[ClassRow, ...]:
    """Accuracy of every class, by falling class count."""
    compared = compare_classes(facts.metrics(BASELINE), facts.metrics(CURRICULUM))
    accepted = accepted_by_class(manifest, len(facts.class_names))
    synthetic = sum(accepted.values(), np.zeros(len(facts.class_names), dtype=np.int64))
    rows = []
    for label in class_order(facts):
        found = compared[label]
        rows.append(
            ClassRow(
                name=facts.class_names[label],
                shots=str(facts.shots[label]),
                real=int(facts.class_counts[label]),
                synthetic=int(synthetic[label]),
                before=Cell(value=number(None if found is None else found.baseline.mean)),
                after=Cell(value=number(None if found is None else found.arm.mean)),
                gain=Cell(value=number(None)) if found is None else _gain_cell(found, 1),
            )
        )
    return tuple(rows)


def acceptance_matrix(facts: RunFacts, manifest: pa.Table) -> tuple[MatrixRow, ...]:
    """Acceptance by class and level, the rarest classes first; at most `MOST_MATRIX_ROWS`."""
    requested = requested_by_class(manifest, len(facts.class_names))
    accepted = accepted_by_class(manifest, len(facts.class_names))
    nothing = np.zeros(len(facts.class_names), dtype=np.int64)
    rows = []
    for label in reversed(class_order(facts)):
        cells = []
        for level in sorted(requested, reverse=True):
            asked, kept = int(requested[level][label]), int(accepted.get(level, nothing)[label])
            share = round(100 * kept / max(1, asked))
            cell = MatrixCell(accepted=kept, requested=asked, share=share)
            cells.append(cell if asked else None)
        if any(cells):
            rows.append(MatrixRow(name=facts.class_names[label], cells=tuple(cells)))
    return tuple(rows[:MOST_MATRIX_ROWS])


def stage_table(stages: Sequence[StageTime]) -> tuple[StageRow, ...]:
    """Stages in their order."""
    longest = max((stage.seconds for stage in stages), default=0.0)
    return tuple(
        StageRow(
            time=stage,
            share=round(100 * stage.seconds / longest, 1) if longest > 0 else 0.0,
            rate=stage.units / stage.seconds if stage.units and stage.seconds > 0 else None,
        )
        for stage in stages
    )


def split_counts(real: pa.Table) -> dict[str, int]:
    """Split to images that were read."""
    used = real.filter(pc.equal(real.column("status"), "ok"))
    grouped = used.group_by("split").aggregate([([], "count_all")]).to_pylist()
    found = {row["split"]: row["count_all"] for row in grouped}
    return {name: found[name] for name in ("train", "val", "test") if name in found}


def rejected_real(real: pa.Table) -> list[dict[str, str]]:
    """The first rows of real images that were not read, with origin, reason and detail."""
    rows = real.filter(pc.not_equal(real.column("status"), "ok"))
    columns = ["split", "class_name", "origin", "reason", "detail"]
    found: list[dict[str, str]] = rows.select(columns).slice(0, MOST_REJECTED_ROWS).to_pylist()
    return found


def level_variables(levels: Sequence[int]) -> dict[int, str]:
    """Level to the CSS variable of its colour."""
    return {level: level_variable(level, tuple(levels)) for level in levels}


def _measured(facts: RunFacts) -> list[str]:
    """The metrics that exist: a split may have no classes."""
    return [metric for metric in METRICS if None not in facts.values(BASELINE, metric)]


def _best(facts: RunFacts, metric: str) -> set[str]:
    """The arms whose mean is best, more than one where they are equal."""
    means = {
        name: estimate([v for v in facts.values(name, metric) if v is not None]).mean
        for name in facts.arms
    }
    top = min(means.values()) if metric == "ece" else max(means.values())
    return {name for name, mean in means.items() if mean == top}


def _arm_row(facts: RunFacts, name: str, cells: Sequence[Cell]) -> ArmRow:
    return ArmRow(
        name=name,
        color=arm_variable(facts, name),
        about=arm(facts.config.arms()[name]),
        cells=tuple(cells),
    )


def _mean_cell(found: Estimate, metric: str, best: bool) -> Cell:
    digits = digits_of(metric)
    note = f"± {number((found.ci95[1] - found.ci95[0]) / 2, digits)}" if found.ci95 else ""
    return Cell(value=number(found.mean, digits), note=note, mark="best" if best else "")


def _gain_cell(found: Comparison, digits: int) -> Cell:
    mark = found.verdict if found.verdict in ("better", "worse") else ""
    return Cell(
        value=signed(found.difference.mean, digits),
        note=interval(found.difference, digits),
        mark=mark,
    )
