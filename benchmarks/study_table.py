"""The Markdown table of a study's cells: `python -m benchmarks.study_table results/FILE.json`.

The same table as `study/table.md` of the run, for cells that were copied here. With
`--against ARM` the differences from that arm instead, each under its own loss: what a curriculum
adds to the same images in no order. `--seeds 8 15` takes those of the seeds alone.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from curriculum.study import METRICS, Cell, Row, best_baseline, summarise
from infra.report.study import COLUMNS, line, markdown


def cell_of(found: dict[str, Any]) -> Cell:
    """A cell as it was written."""
    return Cell(
        data=found["schedule"],
        treatment=found["loss"],
        is_real=not found["generator"],
        seed=found["seed"],
        test={metric: found[metric] for metric in METRICS},
        val=found.get("val", {}),
        model_evaluations=found["model_evaluations"],
        seconds=found["seconds"],
    )


def by_study(found: Iterable[dict[str, Any]]) -> dict[str, list[Cell]]:
    """Study to its cells, in the order of the file."""
    studies: dict[str, list[Cell]] = {}
    for each in found:
        studies.setdefault(each["data"], []).append(cell_of(each))
    return studies


def against(cells: Sequence[Cell], arm: str) -> dict[str, list[Row]]:
    """Loss to every other arm less `arm`, paired by seed; Holm for the arms of a loss."""
    found = {}
    for loss in dict.fromkeys(cell.treatment for cell in cells if cell.data == arm):
        rows = summarise([cell for cell in cells if cell.treatment == loss], (arm, loss))
        found[loss] = [row for row in rows if row.differences]
    return found


def differences(cells: Sequence[Cell], arm: str) -> str:
    """Markdown of `against`."""
    lines = [f"| data | loss | few less {arm} | all less {arm} |", "| --- | --- | ---: | ---: |"]
    for row in chain.from_iterable(against(cells, arm).values()):
        told = dict(zip(COLUMNS, line(row), strict=True))
        shown = ("data", "loss", "few against best", "all against best")
        lines.append(f"| {' | '.join(told[name] for name in shown)} |")
    return "\n".join(lines) + "\n"


def tables(found: Iterable[dict[str, Any]], arm: str | None, first: int, last: float) -> str:
    """Markdown of every study, of the seeds from `first` to `last`; of `against` if `arm` is given.

    Studies that have no such arm are left out.
    """
    told = []
    for data, cells in by_study(each for each in found if first <= each["seed"] <= last).items():
        if not arm:
            table = markdown([line(row) for row in summarise(cells, best_baseline(cells))])
        elif any(cell.data == arm for cell in cells):
            table = differences(cells, arm)
        else:
            continue
        told.append(f"**{data}**\n\n{table}")
    return "\n".join(told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", metavar="ARM")
    parser.add_argument("--seeds", metavar=("FIRST", "LAST"), nargs=2, type=int)
    asked = parser.parse_args()
    stored = json.loads(asked.file.read_text())["cells"]
    print(tables(stored, asked.against, *(asked.seeds or (0, math.inf))))
