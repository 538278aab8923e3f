"""What each way of guiding is worth: quality, likeness, cost, and what a classifier learns of it.

`python -m benchmarks.guidance FOLDER --generator DIR --weak DIR --data mnist.npz` measures all
methods over their scales on two generators, at equal steps and at equal evaluations (an hour on two
cores). It writes `guidance.json`, `guidance.md`, `guidance.png` (pictures) and `guidance_cost.png`
into `results/`. Without a generator it is the digits alone. The same command goes on where it was
stopped; with `--timing` it times the digits again, alone on the machine. `--quick` takes less than
a minute: one scale a method, few images, nothing is learned; it writes into the folder alone.
`--tables` prints the tables of what there is.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.guidance_parts.beds import Bed, digits, few_shot, mnist
from benchmarks.guidance_parts.grid import Fits, Params, grid, short
from benchmarks.guidance_parts.measure import LEVELS, Effort, baseline, make, measure
from benchmarks.guidance_parts.show import page, pareto, table
from generators.registry import MethodSpec, canonical_json
from infra.machine import describe_machine, describe_versions

RESULTS = Path(__file__).parent / "results"
FULL = Effort(steps=20, per_class=2, seeds=4, replicates=6, updates=300)
LARGE = Effort(steps=20, per_class=2, seeds=1, replicates=3, updates=200)
"""Of the 32x32 generator, at equal steps alone: it takes twenty times as long."""
QUICK = Effort(steps=6, per_class=2, seeds=1, replicates=1, updates=1)
EVALUATIONS = 2 * FULL.steps
"""Of a free image, where budgets are equal."""


def main() -> None:
    """Measures what is missing, then shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="for classifiers and fits")
    parser.add_argument("--generator", help="folder of the 32x32 generator")
    parser.add_argument("--weak", help="folder of its weaker version")
    parser.add_argument("--data", type=Path, help="mnist.npz")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    if asked.tables:
        print(table(json.loads((RESULTS / "guidance.json").read_text())["rows"]))
        return
    torch.set_num_threads(asked.threads)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="guidance-"))
    folder.mkdir(parents=True, exist_ok=True)
    output = folder if asked.quick else RESULTS
    beds = [digits(folder, 100 if asked.quick else 600)]
    if asked.generator and not asked.quick:
        beds.append(mnist(folder, asked.generator, asked.weak, asked.data, 800))
    rows: list[dict[str, Any]] = []
    for bed in beds:
        for spec, row in measured(bed, folder, quick=asked.quick):
            if asked.timing and bed is beds[0]:
                row["seconds_per_image"] = timed(bed, spec, row["steps"])
            rows.append(row)
            print(f"{row['generator']} {row['budget']} {row['method']}", flush=True)
    about = {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "beds": {bed.name: bed.about for bed in beds},
        "rows": rows,
    }
    (output / "guidance.json").write_text(json.dumps(about, indent=1) + "\n")
    (output / "guidance.md").write_text(table(rows).lstrip())
    if not asked.quick:
        pareto(rows, output / "guidance_cost.png")
    print(table(rows))
    print(output / "guidance.json")


def measured(bed: Bed, folder: Path, *, quick: bool) -> Iterator[tuple[MethodSpec, dict[str, Any]]]:
    """Rows of a generator; those that are in the folder already are not made again."""
    large = bed.backbone.pixel_shape[1] > 8
    effort = QUICK if quick else (LARGE if large else FULL)
    schedule = bed.backbone.schedule
    counts = (effort.steps,) if quick else (effort.steps, 31, 32, 33)
    walks = [schedule.levels(n, level) for n in counts for level in LEVELS]
    fits = Fits(bed, walks, 0.1 if quick else 1.0)
    cases = list(grid(bed, fits, quick=quick))
    if not quick:
        bed.about["few_shot_without"] = baseline(bed, effort)
    seen: dict[str, tuple[str, Params]] = {}
    for name, params in cases:
        seen.setdefault(name if name != "together" else str(params), (name, params))
    if not large:  # no pictures of data that is not ours to show
        page(
            bed, list(seen.values()), effort.steps, (folder if quick else RESULTS) / "guidance.png"
        )
    for name, params in cases:
        first = row_of(bed, folder, (name, params), effort, "equal steps", quick=quick)
        spec = MethodSpec(name=name, params=params)
        yield spec, first
        if quick or large:
            continue
        full = sum(len(schedule.levels(effort.steps, level)) - 1 for level in LEVELS)
        calls = first["evaluations_per_image"] * len(LEVELS) / full
        other = replace(effort, steps=round(EVALUATIONS / calls))
        row = row_of(bed, folder, (name, params), other, "equal evaluations", quick=quick)
        yield spec, row


def timed(bed: Bed, spec: MethodSpec, steps: int) -> float:
    """Median seconds an image of three runs over the same sources."""
    effort = replace(FULL, steps=steps, seeds=1)
    real = few_shot(bed, 2, 0)
    runs = [make(bed, spec, real, effort, 0) for _ in range(3)]
    return statistics.median(run.seconds / run.asked for run in runs)


def row_of(
    bed: Bed, folder: Path, case: tuple[str, Params], effort: Effort, budget: str, *, quick: bool
) -> dict[str, Any]:
    """One row, from its file if it was measured before."""
    name, params = case
    key = canonical_json([bed.name, name, short(params), effort.steps, quick])
    store = folder / "rows.jsonl"
    known = store.read_text().splitlines() if store.exists() else []
    for line in known:
        found: dict[str, Any] = json.loads(line)
        if found["key"] == key:
            return {**found["row"], "budget": budget}
    row = {
        "method": name,
        "parameters": short(params),
        "generator": bed.name,
        "budget": budget,
        "steps": effort.steps,
        **measure(bed, MethodSpec(name=name, params=params), effort, downstream=not quick),
    }
    with store.open("a") as stream:
        stream.write(json.dumps({"key": key, "row": row}) + "\n")
    return row


if __name__ == "__main__":
    main()
