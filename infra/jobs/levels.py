"""A level of a plan, identified by what it is made from, and its rows once they are judged.

Trainings read levels, not the manifest: a level is complete, and a training that needs no other may
start, long before the manifest is. The manifest is all levels together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa

from generators.places import Place
from generators.registry import MethodSpec, content_hash
from infra.jobs.judge import score_path
from infra.storage.atomic import read_table, write_table
from infra.storage.files import for_each
from infra.storage.manifest import GENERATED_SCHEMA, apply_scores
from infra.storage.runs import RunStore
from infra.storage.shards import read_rows, table_path
from infra.storage.sorted_rows import Part, file_parts, shard_part, write_sorted


class StoredLevel(Protocol):
    """The rows of a level, for trainings."""

    @property
    def image_guidance(self) -> int:
        """Percent."""

    @property
    def name(self) -> str:
        """Identifies what the rows are made from."""

    def path(self, store: RunStore) -> Place:
        """Where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLevel:
    """Everything that decides which images of a level a training may see.

    Attributes:
        image_guidance: percent.
        shards: their names, in the plan's order; a name is the hash of a shard's requests.
        judges: in the order in which they refuse.
        classifier_hash: of the weights that judges may use.
    """

    image_guidance: int
    shards: tuple[str, ...]
    judges: tuple[MethodSpec, ...]
    classifier_hash: str

    @property
    def name(self) -> str:
        """The same shards and judges, the same name; known before any image is made."""
        judges = [judge.as_json() for judge in self.judges]
        digest = content_hash([list(self.shards), judges, self.classifier_hash])
        return f"g{self.image_guidance:03d}-{digest}"

    def path(self, store: RunStore) -> Place:
        """Where its rows are."""
        return store.levels / f"{self.name}.parquet"


def settle_level(level: PlannedLevel, store: RunStore) -> Place:
    """Writes the rows of a complete level, with scores and decisions.

    Always from the shards as they are now: one that was lost may have come back with other bytes.
    """
    path = level.path(store)

    def part(shard: str) -> Part:
        path = table_path(store.generated, shard)
        return shard_part(path, partial(_decided, level, shard, store))

    parts = for_each(store.generated, part, level.shards)
    write_sorted(path, parts)
    return path


def commit_levels(levels: Sequence[PlannedLevel], store: RunStore) -> pa.Table:
    """Writes the manifest: every requested image with its scores and what was decided.

    Without levels, as of a run of real images alone, it has its columns and no row.

    Returns:
        The column `status` of every row.
    """
    if levels:
        parts = (part for level in levels for part in file_parts(level.path(store)))
        write_sorted(store.manifest, parts)
    else:
        write_table(store.manifest, GENERATED_SCHEMA.empty_table())
    return read_table(store.manifest, ["status"])


def _decided(level: PlannedLevel, shard: str, store: RunStore) -> pa.Table:
    """Rows of a shard with all scores; the first judge that refuses an image gives the reason."""
    rows = read_rows(store.generated, shard)
    decisions: dict[str, str] = {}
    for judge in level.judges:
        scores = read_table(score_path(store.scores, shard, judge, level.classifier_hash))
        for key, refused in zip(
            scores["key"].to_pylist(), scores["refused"].to_pylist(), strict=True
        ):
            decisions[key] = decisions.get(key) or refused
        rows = apply_scores(rows, scores.drop_columns(["refused"]), dict(decisions))
    return rows
