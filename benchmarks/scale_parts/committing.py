"""The manifest of many rows, committed as a run does: from twins of shards, sorted, checked."""

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.scale_parts.planning import CLASSES, IMAGES_PER_SHARD, LEVELS, a_plan
from generators.records import SampleRecord
from infra.storage.atomic import read_table, write_table
from infra.storage.manifest import record_rows
from infra.storage.sorted_rows import Part, write_sorted


def commit_rows(rows: int) -> dict[str, Any]:
    """Commits a manifest of so many rows.

    Every shard is the same file, read anew, with keys, class and level of its own: ten thousand
    files would measure the disk.
    """
    plan = a_plan(rows)
    requests = [plan.request(row) for row in range(IMAGES_PER_SHARD)]
    records = [
        SampleRecord(key=r.key, request=r, num_model_calls=50, status="ok") for r in requests
    ]
    with tempfile.TemporaryDirectory() as name:
        twin = Path(name) / "shard.parquet"
        table = record_rows(records).append_column("score_judge", pa.array([0.5] * len(records)))
        write_table(twin, table)

        def part(number: int) -> Part:
            per_level = rows // len(LEVELS) // IMAGES_PER_SHARD
            level = LEVELS[number // per_level]
            label = number % per_level * CLASSES // per_level
            read = _reader(twin, level, label)
            return Part(first=(level, label), schema=table.schema, read=read)

        path = Path(name) / "manifest.parquet"
        written = write_sorted(path, map(part, range(rows // IMAGES_PER_SHARD)))
        return {"rows": written, "mib": path.stat().st_size / 2**20}


def _reader(twin: Path, level: int, label: int) -> Callable[[], pa.Table]:
    def read() -> pa.Table:
        table = read_table(twin)
        count = table.num_rows
        digits = secrets.token_hex(16 * count)
        keys = [digits[start : start + 32] for start in range(0, 32 * count, 32)]
        for name, values in (
            ("key", pa.array(keys)),
            ("image_guidance", pa.array([level] * count, pa.int64())),
            ("label", pa.array([label] * count, pa.int64())),
        ):
            table = table.set_column(table.column_names.index(name), name, values)
        return table

    return read
