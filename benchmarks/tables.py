"""Results of runs as Markdown tables: `python benchmarks/tables.py runs/*/result.json`."""

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = {"all": "all", "many": "many", "medium": "medium", "few": "few", "macro_f1": "F1"}


def table(result: dict[str, Any]) -> str:
    """One run: an arm a row, mean ± standard deviation over seeds, gains with 95 % intervals."""
    lines = [
        "| arm | " + " | ".join(COLUMNS.values()) + " | few: gain | all: gain |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for name, arm in sorted(result["arms"].items(), key=lambda item: -item[1]["mean"]["few"]):
        cells = [f"{arm['mean'][m]:.1f} ± {arm['std'][m]:.1f}" for m in COLUMNS]
        gains = result["gains"].get(name)
        cells += [_gain(gains[metric]) if gains else "" for metric in ("few", "all")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(result: dict[str, Any]) -> str:
    """What the table is of."""
    images, seconds = result["images"], sum(result["seconds"].values())
    return (
        f"{result['seeds']} seeds; {images['accepted']} of {images['requested']} images accepted; "
        f"stages took {seconds:.0f} s; {result['machine']['cpu']}, {result['machine']['cores']} "
        f"cores, torch {result['versions']['torch']}"
    )


def _gain(gain: dict[str, Any]) -> str:
    low, high = gain["ci95"]
    return f"{gain['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        found = json.loads(path.read_text())
        print(f"**{path.parent.name}** ({summary(found)})\n\n{table(found)}\n")
