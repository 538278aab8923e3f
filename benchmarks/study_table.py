"""The Markdown table of a study's cells: `python -m benchmarks.study_table results/FILE.json`.

The same table as `study/table.md` of the run, for cells that were copied here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from curriculum.study import METRICS, Cell, best_baseline, summarise
from infra.report.study import line, markdown


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    studies: dict[str, list[Cell]] = {}
    for found in json.loads(parser.parse_args().file.read_text())["cells"]:
        studies.setdefault(found["data"], []).append(cell_of(found))
    for data, cells in studies.items():
        table = markdown([line(row) for row in summarise(cells, best_baseline(cells))])
        print(f"**{data}**\n\n{table}")
