"""The manifest: one Parquet row per requested image, with its fate. Knows no tars and no judges.

Filters change rows here and never touch a tar. The row's `request` restores what the image was made
from, so that it can be made again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from generators.errors import DataError
from generators.places import Place
from generators.records import GenerationRequest, SampleRecord
from generators.registry import canonical_json
from infra.storage.atomic import read_table, write_table

GENERATED_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("source_key", pa.string()),
        ("source_sha256", pa.string()),
        ("label", pa.int64()),
        ("class_name", pa.string()),
        ("prompt", pa.string()),
        ("image_guidance", pa.int64()),
        ("seed", pa.int64()),
        ("num_inference_steps", pa.int64()),
        ("guidance", pa.string()),
        ("sampler", pa.string()),
        ("backbone", pa.string()),
        ("request", pa.string()),
        ("num_model_calls", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
SCORE: Final = "score_"
ORDER: Final = ("image_guidance", "label", "key")


def record_rows(records: Sequence[SampleRecord]) -> pa.Table:
    """Records as rows of `GENERATED_SCHEMA`. Scores are not in it: see `apply_scores`."""
    return pa.Table.from_pylist([_row(record) for record in records], GENERATED_SCHEMA)


def records_from_rows(table: pa.Table) -> list[SampleRecord]:
    """The inverse of `record_rows`; columns `score_*`, where not null, become scores."""
    judges = [name for name in table.column_names if name.startswith(SCORE)]
    needed = ["key", "request", "num_model_calls", "status", "reason"]
    return [
        SampleRecord(
            key=row["key"],
            request=GenerationRequest.from_json(json.loads(row["request"])),
            num_model_calls=row["num_model_calls"],
            status=row["status"],
            reason=row["reason"],
            scores={
                name.removeprefix(SCORE): row[name] for name in judges if row[name] is not None
            },
        )
        for row in table.select([*needed, *judges]).to_pylist()
    ]


def apply_scores(rows: pa.Table, scores: pa.Table, decisions: Mapping[str, str]) -> pa.Table:
    """Joins judges' scores to rows and settles who is filtered.

    Args:
        rows: with `key`, `status` and `reason`.
        scores: `key` and one column of floats per judge, which becomes `score_<column>`. Where rows
            have that column already, its values are kept for keys that are not in `scores`.
        decisions: key to reason code: empty accepts the image (also one that was filtered before),
            anything else filters it. Keys that are missing stay as they are; so do failed rows.

    Raises:
        DataError: keys that are not in `rows`, or that occur twice in `scores`.
    """
    keys = rows.column("key")
    _require_unique(scores.column("key"), "scores")
    unknown = sorted({*scores.column("key").to_pylist(), *decisions} - set(keys.to_pylist()))
    if unknown:
        raise DataError(f"scores of images that are not in the manifest, e.g. {unknown[0]!r}")
    places = pc.index_in(keys, value_set=scores.column("key").combine_chunks())
    for name in scores.column_names:
        if name == "key":
            continue
        values = scores.column(name).cast(pa.float64()).take(places)
        column = f"{SCORE}{name}"
        if column in rows.column_names:
            values = pc.coalesce(values, rows.column(column))
            rows = rows.drop_columns([column])
        rows = rows.append_column(pa.field(column, pa.float64()), values)
    return _decided(rows, decisions)


def commit_manifest(
    path: Place, tables: Iterable[pa.Table], order: Sequence[str] = ORDER
) -> pa.Table:
    """Writes all rows of a run as one file, atomically; the order of tables does not matter.

    Args:
        path: of the manifest.
        tables: rows of the shards. A column that only some have is null in the others.
        order: columns to sort by; the last is `key`, which is unique.

    Returns:
        What was written.

    Raises:
        DataError: no table, a key that occurs twice, or columns whose types do not fit.
        OutputError: the disk is full, or the folder cannot be written.
    """
    parts = [table.replace_schema_metadata(None) for table in tables]
    if not parts:
        raise DataError(f"{path}: no rows to write")
    try:
        table = pa.concat_tables(parts, promote_options="default")
    except pa.ArrowException as error:
        raise DataError(f"{path}: rows of shards do not fit together: {error}") from error
    _require_unique(table.column("key"), str(path))
    table = table.select(column_order(table.column_names))
    table = table.sort_by([(name, "ascending") for name in order])
    write_table(path, table)
    return table


def read_manifest(path: Place) -> pa.Table:
    """All rows of a run.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_table(path)


def _row(record: SampleRecord) -> dict[str, str | int]:
    request = record.request
    return {
        "key": record.key,
        "source_key": request.source_key,
        "source_sha256": request.source_sha256,
        "label": request.label,
        "class_name": request.class_name,
        "prompt": request.prompt,
        "image_guidance": request.image_guidance,
        "seed": request.seed,
        "num_inference_steps": request.num_inference_steps,
        "guidance": canonical_json(request.guidance.as_json()),
        "sampler": canonical_json(request.sampler.as_json()),
        "backbone": request.backbone,
        "request": canonical_json(request.as_json()),
        "num_model_calls": record.num_model_calls,
        "status": record.status,
        "reason": record.reason,
    }


def _decided(rows: pa.Table, decisions: Mapping[str, str]) -> pa.Table:
    """Rows with status and reason as decided; failed ones as they are."""
    status, reason = rows.column("status").to_pylist(), rows.column("reason").to_pylist()
    for index, key in enumerate(rows.column("key").to_pylist()):
        if key in decisions and status[index] != "failed":
            reason[index] = decisions[key]
            status[index] = "filtered" if reason[index] else "ok"
    for name, values in (("status", status), ("reason", reason)):
        place = rows.column_names.index(name)
        rows = rows.set_column(place, pa.field(name, pa.string()), pa.array(values, pa.string()))
    return rows


def column_order(names: Sequence[str]) -> list[str]:
    """Known columns first, then others by name, scores last: independent of how tables came."""
    known = [name for name in GENERATED_SCHEMA.names if name in names]
    others = sorted(set(names) - set(known))
    return known + sorted(others, key=lambda name: (name.startswith(SCORE), name))


def _require_unique(keys: pa.ChunkedArray, where: str) -> None:
    """Raises DataError, naming a key, if one occurs twice or is null."""
    if keys.null_count:
        raise DataError(f"{where}: a row without a key")
    counts = pc.value_counts(keys)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(f"{where}: the key {twice[0]['values'].as_py()!r} occurs twice")
