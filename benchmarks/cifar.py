"""CIFAR-10-LT: does the tail gain, beside the field's baselines?

`python -m benchmarks.cifar FOLDER --images train.parquet --classes classes.txt` splits the data,
fits the generators and trains the studies in FOLDER, then writes
`results/cifar10_lt_study.json`. Stop it at any time: the same command continues it. `--study NAME`
does one of them and leaves the others' results as they are. The generators with outside
knowledge are here (`cifar_parts/fitted`, weights rounded to bfloat16); `--fit` fits them anew.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cifar_parts.frontier import frontier
from benchmarks.cifar_parts.quality import quality
from benchmarks.cifar_parts.splits import write_splits
from benchmarks.cifar_parts.studies import STUDIES, Study
from infra.machine import describe_machine, describe_versions

PARTS = Path(__file__).parent / "cifar_parts"
OUTPUT = Path(__file__).parent / "results" / "cifar10_lt_study.json"


def main() -> None:
    """Everything that is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="50,000 images as Parquet")
    parser.add_argument("--classes", type=Path, required=True, help="a class name a line")
    parser.add_argument("--study", choices=sorted(STUDIES), action="append", help="default: all")
    parser.add_argument("--fit", action="store_true", help="also the generators that are here")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    if not (asked.folder / "data" / "outside.parquet").exists():
        print(write_splits(asked.images, asked.classes, asked.folder / "data"))
    for name in asked.study or STUDIES:
        study, output = STUDIES[name], f"out_{name}"
        if study.fit:
            fetch_generator(study.fit, asked.folder, anew=asked.fit)
        discl(asked.folder, "study", study.grid, output, *study.changes)
        write_results(study, asked.folder / output, asked.output)


def fetch_generator(fit: str, folder: Path, *, anew: bool) -> None:
    """Copies the generator that is here, or else fits it; one that the folder has is kept."""
    fitted = PARTS / "fitted" / fit
    if anew or not fitted.is_dir():
        discl(folder, "fit", fit, fit)
    elif not any((folder / fit).glob("*/*.safetensors")):
        shutil.copytree(fitted, folder / fit, dirs_exist_ok=True)


def write_results(study: Study, folder: Path, output: Path) -> None:
    """Puts a study's cells, and how good its images are, in the place of those it had before."""
    cells = json.loads((folder / "study" / "study.json").read_text())["cells"]
    cells = [{**cell, "data": study.data} for cell in cells]
    machine = {"machine": describe_machine(), "versions": describe_versions()}
    told: dict[str, Any] = {"data": study.data, **machine}
    if study.is_real:
        for cell in cells:
            cell["generator"] = ""
            cell["schedule"] = cell["schedule"].replace("curriculum", "oversampling")
    else:
        told |= {"quality": quality(folder), "frontier": frontier(folder)}
    found = json.loads(output.read_text()) if output.exists() else {"studies": [], "cells": []}
    merged = {
        **machine,
        "studies": [*(old for old in found["studies"] if old["data"] != study.data), told],
        "cells": [*(old for old in found["cells"] if old["data"] != study.data), *cells],
    }
    output.write_text(json.dumps(merged, indent=1) + "\n")


def discl(folder: Path, command: str, config: str, output: str, *changes: str) -> None:
    """Runs a command in the folder; paths of its config are relative to it."""
    shutil.copy(PARTS / f"{config}.yaml", folder)
    words = [sys.executable, "-m", "infra.cli", command, f"{config}.yaml", "-o", output]
    words += [word for change in changes for word in ("-s", change)]
    subprocess.run(words, cwd=folder, check=True)


if __name__ == "__main__":
    main()
