"""CIFAR-10-LT: does the tail gain, beside the field's baselines?

`python -m benchmarks.cifar FOLDER --images train.parquet --classes classes.txt` splits the data,
fits the generator and trains the study in FOLDER (2 hours on two cores), then writes
`results/cifar10_lt_study.json`. Stop it at any time: the same command continues it.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cifar_parts.quality import quality
from benchmarks.cifar_parts.splits import write_splits
from infra.machine import describe_machine, describe_versions

PARTS = Path(__file__).parent / "cifar_parts"
OUTPUT = Path(__file__).parent / "results" / "cifar10_lt_study.json"


def main() -> None:
    """Everything that is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="50,000 images as Parquet")
    parser.add_argument("--classes", type=Path, required=True, help="a class name a line")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    if not (asked.folder / "data" / "outside.parquet").exists():
        print(write_splits(asked.images, asked.classes, asked.folder / "data"))
    discl(asked.folder, "fit", "fit16", "gen16")
    discl(asked.folder, "study", "study16", "out16")
    write_results(asked.folder, asked.output)


def write_results(folder: Path, output: Path) -> None:
    """The cells of the study, and how good its images are."""
    study = json.loads((folder / "out16" / "study" / "study.json").read_text())
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "quality": quality(folder / "out16"),
        "cells": [{**cell, "data": "CIFAR-10-LT 100, 16x16"} for cell in study["cells"]],
    }
    output.write_text(json.dumps(found, indent=1) + "\n")


def discl(folder: Path, command: str, config: str, output: str) -> None:
    """Runs a command in the folder; paths of its config are relative to it."""
    shutil.copy(PARTS / f"{config}.yaml", folder)
    words = [sys.executable, "-m", "infra.cli", command, f"{config}.yaml", "-o", output]
    subprocess.run(words, cwd=folder, check=True)


if __name__ == "__main__":
    main()
