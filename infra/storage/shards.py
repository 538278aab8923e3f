"""Shards: a WebDataset tar of images and its Parquet twin of rows. Knows no class, level or model.

The twin holds one row per *requested* image, failures included, and appears last: where it is, the
shard is complete. Its schema metadata holds the facts to check the tar with. A shard without any
image has no tar, because `datasets` cannot read an empty one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from generators.errors import DataError
from generators.places import Place
from generators.registry import JsonValue, canonical_json
from infra.storage.atomic import dump_table, replacing, write_json
from infra.storage.files import file_sha256, remove
from infra.storage.members import Layout, ShardMember, check_key, check_members, common_layout
from infra.storage.reader import ShardReader
from infra.storage.refs import (
    LAYOUT_FACT,
    REF_FACT,
    ShardRef,
    read_layout,
    read_ref,
    read_refs,
    read_rows,
    recorded_ref,
)
from infra.storage.tar import ByteRanges, table_path, tar_path, write_tar

__all__ = [
    "Layout",
    "ShardMember",
    "ShardReader",
    "ShardRef",
    "common_layout",
    "file_sha256",
    "read_layout",
    "read_ref",
    "read_refs",
    "read_rows",
    "recorded_ref",
    "table_path",
    "tar_path",
    "write_info",
    "write_shard",
]

PLACE_SCHEMA: Final = pa.schema(
    [
        ("shard", pa.string()),
        ("shard_sha256", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)


def write_shard(
    directory: Place, name: str, members: Sequence[ShardMember], rows: pa.Table
) -> ShardRef:
    """Writes a shard; the same samples and rows, in any order, give the same bytes.

    Args:
        directory: made if missing.
        name: `[A-Za-z0-9_-]+`.
        members: the images that were made.
        rows: one row per requested image with a unique `key`; a row per member at least. The
            columns `shard`, `shard_sha256`, `member`, `offset` and `size` are added; the last three
            are "", -1 and -1 where there is no image.

    Raises:
        DataError: samples or rows that break a rule; nothing is written.
        OutputError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    check_key(name, "name of a shard")
    ordered = sorted(members, key=lambda member: member.key)
    layout = check_members(name, ordered)
    rows = _sorted_rows(name, ordered, rows)
    with replacing(table_path(directory, name)) as twin:
        ref, ranges = _write_images(directory, name, ordered, rows.num_rows)
        facts = {REF_FACT: canonical_json(ref.as_json())}
        if layout:
            facts[LAYOUT_FACT] = canonical_json(layout.as_json())
        dump_table(twin, _placed(rows, ref, ordered, ranges), facts)
    return ref


def write_info(
    directory: Place, info: Mapping[str, JsonValue], splits: Mapping[str, Sequence[ShardRef]]
) -> None:
    """Writes `_info.json` beside the tars: what timm's `wds/` reader needs, and what humans ask.

    Args:
        directory: where the shards are.
        info: own fields, e.g. `class_names`.
        splits: name of a split, e.g. `train`, to its shards. Those without samples are left out.

    Raises:
        DataError: shards that cannot be read together, or a field that is written here.
        OutputError: the disk is full, or the folder cannot be written.
    """
    taken = {"splits", "image", "json"} & set(info)
    if taken:
        raise DataError(f"{directory}: the fields {sorted(taken)} of _info.json are filled in here")
    refs = [ref for shards in splits.values() for ref in shards]
    layout = common_layout((ref.name, read_layout(directory, ref.name)) for ref in refs)
    value: dict[str, JsonValue] = dict(info)
    value["splits"] = {name: _split(name, shards) for name, shards in splits.items()}
    if layout:
        value["image"] = {"extension": layout.extension, "mode": layout.mode}
        value["json"] = dict(layout.info)
    write_json(directory / "_info.json", value)


def _write_images(
    directory: Place, name: str, members: Sequence[ShardMember], num_rows: int
) -> tuple[ShardRef, ByteRanges]:
    """Writes the tar, or removes one that should not be there."""
    path = tar_path(directory, name)
    if not members:
        ref = ShardRef(
            name=name,
            num_samples=0,
            num_rows=num_rows,
            num_bytes=0,
            sha256=hashlib.sha256().hexdigest(),
        )
        _retract(directory, ref)
        remove(path)
        return ref, {}
    with replacing(path) as stream:
        written = write_tar(stream, members)
        ref = ShardRef(
            name=name,
            num_samples=len(members),
            num_rows=num_rows,
            num_bytes=written.num_bytes,
            sha256=written.sha256,
        )
        _retract(directory, ref)
    return ref, written.ranges


def _retract(directory: Place, ref: ShardRef) -> None:
    """Removes a twin that does not describe the tar that is about to appear."""
    if read_ref(directory, ref.name) != ref:
        remove(table_path(directory, ref.name))


def _sorted_rows(name: str, members: Sequence[ShardMember], rows: pa.Table) -> pa.Table:
    """The rows by key, after checking that keys are unique and that every image has a row."""
    taken = sorted(set(PLACE_SCHEMA.names) & set(rows.column_names))
    if "key" not in rows.column_names or taken:
        raise DataError(f"shard {name}: rows need a column 'key' and none of {PLACE_SCHEMA.names}")
    keys = rows.column("key").to_pylist()
    if len(set(keys)) != len(keys) or None in keys:
        raise DataError(f"shard {name}: keys of rows must be unique and not null")
    lost = sorted({member.key for member in members} - set(keys))
    if lost:
        raise DataError(f"shard {name}: no row for the image {lost[0]!r} ({len(lost)} in all)")
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return rows.take(pa.array(order, pa.int64()))


def _placed(
    rows: pa.Table, ref: ShardRef, members: Sequence[ShardMember], ranges: ByteRanges
) -> pa.Table:
    """The rows with the place of each image."""
    names = {member.key: f"{member.key}.{member.extension}" for member in members}
    keys = rows.column("key").to_pylist()
    columns = (
        [ref.name] * len(keys),
        [ref.sha256] * len(keys),
        [names.get(key, "") for key in keys],
        [ranges.get(key, (-1, -1))[0] for key in keys],
        [ranges.get(key, (-1, -1))[1] for key in keys],
    )
    for field, values in zip(PLACE_SCHEMA, columns, strict=True):
        rows = rows.append_column(field, pa.array(values, field.type))
    return rows


def _split(name: str, shards: Sequence[ShardRef]) -> dict[str, JsonValue]:
    """One entry of `splits` as timm's `ReaderWds` takes it, with the hashes added."""
    filled = sorted((ref for ref in shards if ref.num_samples), key=lambda ref: ref.name)
    return {
        "name": name,
        "num_samples": sum(ref.num_samples for ref in filled),
        "filenames": [f"{ref.name}.tar" for ref in filled],
        "shard_lengths": [ref.num_samples for ref in filled],
        "sha256": [ref.sha256 for ref in filled],
    }
