"""What synthetic images are worth by their cost, spread evenly or where trainings gained most.

`python -m benchmarks.closed_loop FOLDER` (half an hour on two cores) tops the embedded digits up in
rounds of doubling cost, trains after each, and writes `results/closed_loop.json`. Replicates differ
in everything: splits, tail, images, trainings. Stop it at any time; the same command continues it.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from curriculum.compare import estimate
from infra.cli.execute import flow_setting
from infra.config import RunConfig
from infra.config.load import override, read_preset, validate
from infra.jobs.closed_loop import gains_path
from infra.machine import describe_machine, describe_versions
from infra.storage.runs import RunStore

OUTPUT = Path(__file__).parent / "results" / "closed_loop.json"
ROUNDS = (1000, 1000, 2000, 4000, 8000, 16000)
"""Model evaluations that each round may spend; all images of the plan cost 39,480."""
ARMS = {"even": 100, "closed loop": 20}
"""`explore_percent`."""


def main() -> None:
    """All rounds that are not done yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    rows = []
    with flow_setting(Console(), asked.folder):
        for replicate in range(asked.replicates):
            for arm, explore in ARMS.items():
                store = RunStore(asked.folder / f"{arm.replace(' ', '_')}-{replicate}")
                rows += [
                    {"arm": arm, "replicate": replicate, **found}
                    for found in rounds(config_of(replicate, explore), store)
                ]
    about = {"machine": describe_machine(), "versions": describe_versions(), "rows": rows}
    asked.output.write_text(json.dumps(about, indent=1) + "\n")
    print(table(rows), end="")


def config_of(replicate: int, explore: int) -> RunConfig:
    """The digits of the study with the schedule that directs."""
    schedule = f"{{name: budgeted_adaptive, num_held_out: 20, explore_percent: {explore}}}"
    changes = [
        "study=null",
        "compare={}",
        f"curriculum={{schedule: {schedule}, tail_share: 0.7, loss: balanced_softmax}}",
        "training.seeds=2",
        f"data.seed={replicate}",
        f"generation.seed={1000 * replicate}",
        "workers={kind: local}",
    ]
    return validate(RunConfig, override(read_preset("digits_study"), changes))


def rounds(config: RunConfig, store: RunStore) -> list[dict[str, Any]]:
    """Evaluations spent and accuracies, in percent, after each round."""
    from flows.top_up import top_up

    found = []
    for number, budget in enumerate(ROUNDS, start=1):
        if not gains_path(store, number).exists():
            top_up(config, str(store.root), budget_evaluations=budget)
        measured = json.loads(gains_path(store, number).read_text())
        metrics = measured["metrics"]
        found.append(
            {
                "model_evaluations": measured["model_evaluations"],
                "images": sum(cell["images"] for cell in measured["cells"]),
                "few": mean([one["few"] for one in metrics]),
                "all": mean([one["top1"] for one in metrics]),
            }
        )
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the arms at equal budgets, and their difference, paired by replicate."""
    lines = ["| budget | " + " | ".join(f"{arm}: few" for arm in ARMS) + " | difference |"]
    lines += ["| ---: " * (len(ARMS) + 2) + "|"]
    replicates = 1 + max(row["replicate"] for row in rows)
    spent = 0
    for number, budget in enumerate(ROUNDS):
        spent += budget
        few: Mapping[str, list[float]] = {
            arm: [row["few"] for row in rows if row["arm"] == arm][number :: len(ROUNDS)]
            for arm in ARMS
        }
        assert all(len(values) == replicates for values in few.values())
        differences = [b - a for a, b in zip(*few.values(), strict=True)]
        cells = [shown(values) for values in (*few.values(), differences)]
        lines.append(f"| {spent:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shown(values: list[float]) -> str:
    """Mean and half the 95 % interval."""
    found = estimate(values)
    half = f" ± {(found.ci95[1] - found.ci95[0]) / 2:.1f}" if found.ci95 else ""
    return f"{found.mean:.1f}{half}"


def mean(values: list[float]) -> float:
    """Of a few numbers."""
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
