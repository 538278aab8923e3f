"""Shards: a WebDataset tar of images and its Parquet twin of rows. Knows no class, level or model.

The twin holds one row per *requested* image, failures included, and appears last: where it is, the
shard is complete. Its schema metadata holds the facts to check the tar with. A shard without any
image has no tar, because `datasets` cannot read an empty one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from generators.errors import DataError
from generators.registry import JsonValue, canonical_json
from infra.storage.atomic import dump_table, read_table, replacing, write_json
from infra.storage.members import Layout, ShardMember, check_key, check_members, common_layout
from infra.storage.reader import ShardReader
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
REF_FACT: Final = "discl.shard"
LAYOUT_FACT: Final = "discl.layout"
FACTS: Final = (REF_FACT, LAYOUT_FACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRef:
    """A shard by name with what its tar must be. Small: it travels between processes.

    Attributes:
        name: file name without extension.
        num_samples: images in the tar.
        num_rows: images that were asked for.
        num_bytes: size of the tar; 0 where there is none.
        sha256: of the tar's bytes, 64 hex digits.
    """

    name: str
    num_samples: int
    num_rows: int
    num_bytes: int
    sha256: str

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> Self:
        """The inverse of `as_json`."""
        return cls(**data)


def write_shard(
    directory: Path, name: str, members: Sequence[ShardMember], rows: pa.Table
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


def read_ref(directory: Path, name: str, *, verify: bool = False) -> ShardRef | None:
    """The facts of a shard, or None unless it is complete.

    Args:
        directory: where it is.
        name: of the shard.
        verify: also read every byte: the tar's hash and the checksums of the twin's pages.
    """
    ref = recorded_ref(directory, name)
    if ref is None:
        return None
    path = tar_path(directory, name)
    try:
        num_bytes = path.stat().st_size if ref.num_samples else 0
        if verify:
            read_rows(directory, name)
        damaged = verify and ref.num_samples and file_sha256(path) != ref.sha256
    except (OSError, DataError):
        return None
    return None if damaged or num_bytes != ref.num_bytes else ref


def recorded_ref(directory: Path, name: str) -> ShardRef | None:
    """What the twin says of its tar, without looking at the tar; None without a right twin."""
    try:
        data = _facts(directory, name).get(REF_FACT)
    except DataError:
        return None
    ref = None if data is None else ShardRef.from_json(data)
    return ref if ref is not None and ref.name == name else None


def read_layout(directory: Path, name: str) -> Layout | None:
    """What the samples of a shard have in common; None if it has no samples.

    Raises:
        DataError: the shard's twin is missing or damaged.
    """
    data = _facts(directory, name).get(LAYOUT_FACT)
    return None if data is None else Layout(**data)


def read_rows(directory: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, sorted by key, without the file's own facts.

    Args:
        directory: where it is.
        name: of the shard.
        columns: to read; default all.

    Raises:
        DataError: the twin is missing or damaged.
    """
    return read_table(table_path(directory, name), columns).replace_schema_metadata(None)


def write_info(
    directory: Path, info: Mapping[str, JsonValue], splits: Mapping[str, Sequence[ShardRef]]
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
    directory: Path, name: str, members: Sequence[ShardMember], num_rows: int
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
        path.unlink(missing_ok=True)
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


def _retract(directory: Path, ref: ShardRef) -> None:
    """Removes a twin that does not describe the tar that is about to appear."""
    if read_ref(directory, ref.name) != ref:
        table_path(directory, ref.name).unlink(missing_ok=True)


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


def _facts(directory: Path, name: str) -> dict[str, JsonValue]:
    """What the twin says of its shard."""
    path = table_path(directory, name)
    try:
        found = pq.read_schema(path).metadata or {}
        return {key: json.loads(found[key.encode()]) for key in FACTS if key.encode() in found}
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: missing or damaged ({error})") from error


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
