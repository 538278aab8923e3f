"""Counts over the manifests: by fate, level, class and score. Decodes no image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SCORE_PREFIX = "score_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What became of some requested images.

    Attributes:
        requested: all of them.
        accepted: made, and refused by no judge.
        rejected: reason code to images that a judge refused.
        failed: reason code to images that could not be made.
    """

    requested: int
    accepted: int
    rejected: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def num_rejected(self) -> int:
        """Images that a judge refused."""
        return sum(self.rejected.values())

    @property
    def num_failed(self) -> int:
        """Images that could not be made."""
        return sum(self.failed.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """A score of the images of one level: mean, median and quartiles, made images only."""

    mean: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFacts:
    """One image-guidance level.

    Attributes:
        image_guidance: percent.
        fates: of its images.
        scores: column of the manifest to its summary.
    """

    image_guidance: int
    fates: Fates
    scores: Mapping[str, ScoreSummary]


def fates(manifest: pa.Table) -> Fates:
    """Fates of all rows; reasons sorted by how often they occur, then by name."""
    grouped = manifest.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist()
    counted = {(row["status"], row["reason"]): row["count_all"] for row in grouped}
    return Fates(
        requested=manifest.num_rows,
        accepted=sum(n for (status, _), n in counted.items() if status == "ok"),
        rejected=_reasons(counted, "filtered"),
        failed=_reasons(counted, "failed"),
    )


def levels(manifest: pa.Table) -> tuple[int, ...]:
    """The image-guidance levels in a manifest, ascending."""
    return tuple(sorted(pc.unique(manifest.column("image_guidance")).to_pylist()))


def level_facts(manifest: pa.Table) -> tuple[LevelFacts, ...]:
    """Fates and scores of every level, ascending."""
    found = []
    for level in levels(manifest):
        rows = manifest.filter(pc.equal(manifest.column("image_guidance"), level))
        summaries = {name: summary(rows.column(name)) for name in score_columns(manifest)}
        found.append(
            LevelFacts(
                image_guidance=level,
                fates=fates(rows),
                scores={name: value for name, value in summaries.items() if value is not None},
            )
        )
    return tuple(found)


def model_evaluations(manifest: pa.Table) -> dict[int, int]:
    """Level to what its images took to make; copied ones as much as where they were made."""
    sums = manifest.group_by("image_guidance").aggregate([("num_model_calls", "sum")]).to_pylist()
    return {row["image_guidance"]: row["num_model_calls_sum"] or 0 for row in sums}


def score_columns(manifest: pa.Table) -> tuple[str, ...]:
    """The columns that hold judges' scores, in the manifest's order."""
    return tuple(name for name in manifest.column_names if name.startswith(SCORE_PREFIX))


def score_name(column: str) -> str:
    """A score's name without the prefix of its column."""
    return column.removeprefix(SCORE_PREFIX)


def summary(column: pa.ChunkedArray) -> ScoreSummary | None:
    """Summary of the finite values of a column, None where there are none."""
    values = column.drop_null().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return ScoreSummary(mean=float(values.mean()), low=low, median=median, high=high)


def accepted_by_class(manifest: pa.Table, num_classes: int) -> dict[int, NDArray[np.int64]]:
    """Level to accepted images per class (num_classes,), ascending."""
    return _by_class(manifest.filter(pc.equal(manifest.column("status"), "ok")), num_classes)


def requested_by_class(manifest: pa.Table, num_classes: int) -> dict[int, NDArray[np.int64]]:
    """Level to requested images per class (num_classes,), ascending."""
    return _by_class(manifest, num_classes)


def _by_class(rows: pa.Table, num_classes: int) -> dict[int, NDArray[np.int64]]:
    counts: dict[int, NDArray[np.int64]] = {}
    grouped = rows.group_by(["image_guidance", "label"]).aggregate([([], "count_all")])
    for row in sorted(grouped.to_pylist(), key=lambda row: row["image_guidance"]):
        level = counts.setdefault(row["image_guidance"], np.zeros(num_classes, dtype=np.int64))
        level[row["label"]] = row["count_all"]
    return counts


def _reasons(counted: Mapping[tuple[str, str], int], status: str) -> dict[str, int]:
    found = {reason or "unknown": n for (kind, reason), n in counted.items() if kind == status}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
