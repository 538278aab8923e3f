"""What trainings have measured of a version of the manifest, for the one that follows."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curriculum.feedback import mean_gains
from curriculum.schedules.base import Cells
from generators.places import Place, file_exists
from infra.storage.atomic import read_json, write_json, write_table
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import file_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedLevel:
    """The rows of a level in the manifest as it is.

    Attributes:
        image_guidance: percent.
        manifest: its sha256.
    """

    image_guidance: int
    manifest: str

    @property
    def name(self) -> str:
        """The same manifest, the same name."""
        return f"g{self.image_guidance:03d}-of-{self.manifest[:32]}"

    def path(self, store: RunStore) -> Place:
        """Where the rows are."""
        return store.levels / f"{self.name}.parquet"


def split_manifest(store: RunStore) -> list[CommittedLevel]:
    """Writes the rows of each level of the manifest, for trainings, which read levels."""
    rows, manifest = read_manifest(store.manifest), file_sha256(store.manifest)
    levels = sorted(set(rows["image_guidance"].to_pylist()))
    found = [CommittedLevel(image_guidance=level, manifest=manifest) for level in levels]
    for level in found:
        if not file_exists(level.path(store)):
            own = rows.filter(pc.equal(rows["image_guidance"], level.image_guidance))
            write_table(level.path(store), own)
    return found


def gains_path(store: RunStore, version: int) -> Place:
    """What was measured on a version of the manifest."""
    return store.root / "gains" / f"{version:06d}.json"


def store_gains(
    path: Place, rows: pa.Table, class_names: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> None:
    """Writes what trainings on a manifest have measured, with what was there.

    Args:
        path: to write.
        rows: of the manifest.
        class_names: by label.
        results: of the trainings.
    """
    accepted = rows.filter(pc.equal(rows["status"], "ok"))
    cells = list(
        zip(accepted["label"].to_pylist(), accepted["image_guidance"].to_pylist(), strict=True)
    )
    there = Counter(cells)
    gains = {
        (label, level): gain for label, level, gain in mean_gains([r["gains"] for r in results])
    }
    found = [
        {
            "class": class_names[label],
            "image_guidance": level,
            "images": there[label, level],
            "gain": gains.get((label, level)),
        }
        for label, level in sorted({*there, *gains})
    ]
    tested = {
        name: [result[name] for result in results]
        for name in ("val", "metrics")
        if all(name in result for result in results)
    }
    spent = int(pc.sum(rows["num_model_calls"]).as_py() or 0)
    write_json(path, {"model_evaluations": spent, "cells": found, **tested})


def load_gains(path: Place, class_names: Sequence[str], levels: Sequence[int]) -> Cells:
    """(num_classes, num_levels) gains; NaN where none was measured."""
    found = np.full((len(class_names), len(levels)), math.nan)
    label, column = ({x: i for i, x in enumerate(names)} for names in (class_names, levels))
    for cell in read_json(path)["cells"]:
        if cell["gain"] is not None and cell["image_guidance"] in column:
            found[label[cell["class"]], column[cell["image_guidance"]]] = cell["gain"]
    return found
