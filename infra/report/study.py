"""The table of a study, from what is stored, for people, papers and programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from curriculum.compare import Estimate
from curriculum.evaluate import Metrics
from curriculum.schedules.base import levels_read
from curriculum.study import METRICS, Cell, Row, best_baseline, summarise
from generators.registry import build
from infra.config.schema import treated
from infra.report.counts import model_evaluations
from infra.report.facts import RunFacts
from infra.storage.atomic import write_bytes, write_json
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore

SHOWN = ("data", "loss", "few", "all", "few - best", "all - best")
COLUMNS = ("data", "loss", *METRICS, "few against best", "all against best", "evaluations", "s")
LATEX = """\\begin{tabular}{ll{% for _ in columns[2:] %}r{% endfor %}}
\\toprule
{{ columns | join(" & ") }} \\\\
\\midrule
{% for line in lines %}{{ line | join(" & ") }} \\\\
{% endfor %}\\bottomrule
\\end{tabular}
"""


def cells_of(facts: RunFacts, evaluations: Mapping[int, int]) -> list[Cell]:
    """One for each training of the run; `evaluations` by level of what it may read."""
    config = facts.config
    default = config.training.loss.name
    found = []
    for treatment in config.treatments():
        for name, arm in config.plain_arms().items():
            schedule = build("schedule", arm.schedule)
            levels = frozenset[int]().union(*levels_read(schedule, config.training.epochs))
            calls = sum(evaluations.get(level, 0) for level in levels)
            for result in facts.arms[treated(name, treatment)]:
                test = _metrics(result.metrics)
                val = {} if result.val is None else _metrics(result.val)
                found.append(
                    Cell(
                        data=name,
                        treatment=treatment or default,
                        is_real=not levels,
                        seed=result.seed,
                        test=test,
                        val=val,
                        model_evaluations=calls,
                        seconds=result.seconds,
                    )
                )
    return found


def write_study(store: RunStore, facts: RunFacts) -> None:
    """Writes `study/` of a run: `study.json` and the table as Markdown, LaTeX, CSV and a figure."""
    cells = cells_of(facts, model_evaluations(read_manifest(store.manifest)))
    baseline = best_baseline(cells)
    rows = summarise(cells, baseline)
    folder, lines = store.study, [line(row) for row in rows]
    table = {"columns": list(SHOWN), "lines": [shown(row) for row in rows]}
    write_json(folder / "study.json", {**as_json(facts, cells, baseline), "table": table})
    write_bytes(folder / "table.md", markdown(lines).encode())
    write_bytes(folder / "table.tex", latex(lines).encode())
    write_bytes(folder / "table.csv", as_csv(rows).encode())
    write_bytes(folder / "table.svg", figure(rows, baseline))


def as_json(facts: RunFacts, cells: Sequence[Cell], baseline: tuple[str, str]) -> dict[str, Any]:
    """Everything in the table, training by training."""
    backbone = facts.config.generation.backbone
    generator = "own" if backbone is None else str(backbone.params.get("path", backbone.name))
    return {
        "machine": dict(facts.machine),
        "versions": dict(facts.versions),
        "baseline": list(baseline),
        "cells": [
            {
                "data": facts.config.name,
                "schedule": cell.data,
                "loss": cell.treatment,
                "generator": "" if cell.is_real else generator.rstrip("/").rpartition("/")[2],
                "seed": cell.seed,
                **cell.test,
                "val": dict(cell.val),
                "model_evaluations": cell.model_evaluations,
                "seconds": round(cell.seconds, 1),
            }
            for cell in cells
        ],
    }


def line(row: Row) -> list[str]:
    """A line of the table, as texts."""
    found = [row.data, row.treatment]
    found += [_mean(row.estimates.get(metric)) for metric in METRICS]
    found += [_against(row, metric) for metric in ("few", "all")]
    return [*found, f"{row.model_evaluations:,}", f"{row.seconds:.0f}"]


def shown(row: Row) -> list[str]:
    """A line of the table of a terminal: a star where a difference is significant at 5 %."""
    found = [row.data, row.treatment]
    found += [_mean(row.estimates.get(metric)) for metric in ("few", "all")]
    for metric in ("few", "all"):
        difference, p = row.differences.get(metric), row.p_values.get(metric)
        star = " *" if p is not None and p < 0.05 else ""
        found.append("best" if not row.differences else signed_interval(difference) + star)
    return found


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head = [COLUMNS, ["---", "---", *["---:"] * (len(COLUMNS) - 2)]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*head, *lines])


def latex(lines: Sequence[Sequence[str]]) -> str:
    """A LaTeX table for booktabs."""
    escaped = [[cell.replace("_", r"\_").replace("±", r"$\pm$") for cell in line] for line in lines]
    text: str = jinja2.Template(LATEX).render(columns=COLUMNS, lines=escaped)
    return text


def as_csv(rows: Sequence[Row]) -> str:
    """One line an arm, numbers only."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    parts = ("mean", "low", "high")
    names = [f"{m}_{part}" for m in METRICS for part in parts]
    differences = [f"{m}_difference_{part}" for m in METRICS for part in (*parts, "p")]
    writer.writerow(["data", "loss", *names, *differences, "model_evaluations", "seconds"])
    for row in rows:
        values: list[Any] = [row.data, row.treatment]
        for metric in METRICS:
            values += _numbers(row.estimates.get(metric))
        for metric in METRICS:
            values += [*_numbers(row.differences.get(metric)), row.p_values.get(metric)]
        writer.writerow([*values, row.model_evaluations, round(row.seconds, 1)])
    return stream.getvalue()


def figure(rows: Sequence[Row], baseline: tuple[str, str]) -> bytes:
    """SVG: few-shot and overall accuracy of every arm with their intervals."""
    from matplotlib.figure import Figure

    metrics = [m for m in ("few", "all") if any(m in row.estimates for row in rows)]
    drawn = Figure(figsize=(4 * len(metrics) + 2, 0.26 * len(rows) + 1), layout="constrained")
    plots = drawn.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    names = [f"{row.data} · {row.treatment}" for row in rows]
    for plot, metric in zip(plots, metrics, strict=True):
        for place, row in enumerate(rows):
            found = row.estimates[metric]
            low, high = found.ci95 or (found.mean, found.mean)
            color = "black" if (row.data, row.treatment) == baseline else "tab:blue"
            color = "tab:gray" if row.is_real and color == "tab:blue" else color
            plot.plot([low, high], [place, place], color=color)
            plot.plot(found.mean, place, "o", color=color, markersize=4)
        plot.set_title(f"{metric}, %", fontsize=9)
        plot.grid(axis="x", alpha=0.3)
        plot.set_yticks(range(len(rows)), names, fontsize=7)
    plots[0].invert_yaxis()
    stream = io.BytesIO()
    drawn.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _metrics(found: Metrics) -> dict[str, float | None]:
    return {"many": found.many, "medium": found.medium, "few": found.few, "all": found.top1}


def _mean(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.ci95 is None:
        return f"{found.mean:.1f}"
    return f"{found.mean:.1f} ± {found.ci95[1] - found.mean:.1f}"


def _against(row: Row, metric: str) -> str:
    if not row.differences:
        return "best on real images"
    text, p = signed_interval(row.differences.get(metric)), row.p_values.get(metric)
    return text if p is None else f"{text}, p {p:.2g}"


def signed_interval(found: Estimate | None) -> str:
    """`+1.2 [-0.3, +2.7]`; a mean alone with one seed, a dash without a value."""
    if found is None:
        return "-"
    if found.ci95 is None:
        return f"{found.mean:+.1f}"
    return f"{found.mean:+.1f} [{found.ci95[0]:+.1f}, {found.ci95[1]:+.1f}]"


def _numbers(found: Estimate | None) -> list[float | None]:
    if found is None:
        return [None, None, None]
    return [found.mean, *(found.ci95 or (None, None))]
