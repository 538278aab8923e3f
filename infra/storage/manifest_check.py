"""Compares manifests with the twins of their shards, row by row, in bounded memory.

Rows of a shard are spread over a manifest, so both are reduced to sums of hashes by shard: equal
sums, equal rows. 16 bytes a shard and 16 bytes a row are kept.
"""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from generators.places import Place
from infra.storage.atomic import parquet_file
from infra.storage.check import StoreProblem

SAME: Final = ("key", "shard_sha256", "member", "offset", "size")
"""What a row says in a twin and in a manifest alike."""

FATE: Final = ("shard", "status", "reason")
STATUSES: Final = frozenset({"ok", "filtered", "failed"})
MODULUS: Final = 2**64
MOST_NAMED: Final = 5
"""Rows of a kind that are named one by one."""


@dataclass(slots=True, eq=False)
class RowSums:
    """What many rows have been reduced to.

    Attributes:
        num_rows: by shard.
        totals: sum of the rows' hashes by shard, modulo 2**64.
        keys: 64 bits of hash of every key.
        rows: 64 bits of hash of every row.
        wrong: rows that cannot be right, in words.
    """

    num_rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    totals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    rows: "array[int]" = field(default_factory=lambda: array("Q"))
    wrong: list[str] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        """Takes in rows; of twins and manifests alike."""
        columns = [rows.column(name).to_pylist() for name in (*SAME, *FATE)]
        for key, sha256, member, offset, size, shard, status, reason in zip(*columns, strict=True):
            facts = _hashed(f"{key} {sha256} {member} {offset} {size} {status == 'failed'}")
            self.num_rows[shard] += 1
            self.totals[shard] = (self.totals[shard] + facts) % MODULUS
            self.rows.append(facts)
            self.keys.append(_hashed(str(key)))
            if why := _why_wrong(member, offset, status, reason):
                self.wrong.append(f"{key}: {why}")

    def twice(self) -> int:
        """How many keys occur more than once."""
        _, counts = np.unique(np.frombuffer(self.keys, dtype=np.uint64), return_counts=True)
        return int((counts > 1).sum())

    def strangers(self, other: "RowSums") -> int:
        """How many rows the other one does not hold."""
        mine, others = (np.frombuffer(rows.rows, dtype=np.uint64) for rows in (self, other))
        return int((~np.isin(mine, others)).sum())

    def same(self, other: "RowSums", shard: str) -> bool:
        """Whether both hold the same rows of a shard."""
        return (self.num_rows.get(shard), self.totals.get(shard)) == (
            other.num_rows.get(shard),
            other.totals.get(shard),
        )


def read_sums(path: Place) -> RowSums:
    """Of all rows of a Parquet file, its pages checked.

    Raises:
        DataError: the file is missing or damaged, or holds other columns.
        StoreError: an object store does not answer.
    """
    sums = RowSums()
    with parquet_file(path) as file:
        for batch in file.iter_batches(columns=[*SAME, *FATE]):
            sums.add(pa.Table.from_batches([batch]))
    return sums


def manifest_problems(path: Place, manifest: RowSums) -> list[StoreProblem]:
    """What is wrong with a manifest by itself."""
    problems = [
        StoreProblem(path=path, code="wrong_row", detail=text)
        for text in _few(manifest.wrong, "rows")
    ]
    if twice := manifest.twice():
        detail = f"{twice} keys occur more than once"
        problems.append(StoreProblem(path=path, code="key_twice", detail=detail))
    return problems


def compared(
    path: Place, manifest: RowSums, twins: RowSums, shards: Sequence[str]
) -> list[StoreProblem]:
    """Shards, those that are whole, whose rows are others in the manifest."""
    wrong = [
        f"shard {name}: {manifest.num_rows.get(name, 0)} rows in the manifest and "
        f"{twins.num_rows.get(name, 0)} in its own file, or others"
        for name in shards
        if not manifest.same(twins, name)
    ]
    return [
        StoreProblem(path=path, code="other_rows", detail=text) for text in _few(wrong, "shards")
    ]


def chosen_rows(path: Place, manifest: RowSums, twins: RowSums) -> list[StoreProblem]:
    """Rows that no shard has, of a manifest that may leave rows of shards out."""
    strangers = manifest.strangers(twins)
    detail = f"{strangers} rows are not those of any shard"
    return [StoreProblem(path=path, code="other_rows", detail=detail)] * (strangers > 0)


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _few(texts: Sequence[str], what: str) -> list[str]:
    more = len(texts) - MOST_NAMED
    return [*texts[:MOST_NAMED], *([f"{more} more {what} like these"] if more > 0 else [])]


def _why_wrong(member: Any, offset: Any, status: Any, reason: Any) -> str:
    """What in a row contradicts the rest; empty where nothing does."""
    if status not in STATUSES:
        return f"status {status!r}"
    if (status == "ok") != (reason == ""):
        return f"status {status!r} with the reason {reason!r}"
    if (status == "failed") != (not member) or (status == "failed") != (offset < 0):
        return f"status {status!r} with the image {member!r} at {offset}"
    return ""
