"""Finished shards as their twins describe them. Writes nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

import pyarrow as pa

from generators.errors import DataError
from generators.places import Place, StoreError, is_remote
from generators.registry import JsonValue
from infra.storage.atomic import parquet_file, read_table
from infra.storage.files import file_sha256, for_each, size_of, sizes_in
from infra.storage.members import Layout
from infra.storage.tar import table_path, tar_path

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


def read_ref(directory: Place, name: str, *, verify: bool = False) -> ShardRef | None:
    """The facts of a shard, or None unless it is complete.

    Args:
        directory: where it is.
        name: of the shard.
        verify: also read every byte: the tar's hash and the checksums of the twin's pages.

    Raises:
        StoreError: an object store does not answer.
    """
    ref = recorded_ref(directory, name)
    if ref is None:
        return None
    path = tar_path(directory, name)
    try:
        num_bytes = size_of(path) if ref.num_samples else 0
        if verify:
            read_rows(directory, name)
        damaged = verify and ref.num_samples and file_sha256(path) != ref.sha256
    except StoreError:
        raise
    except (OSError, DataError):
        return None
    return None if damaged or num_bytes != ref.num_bytes else ref


def read_refs(directory: Place, names: Iterable[str]) -> dict[str, ShardRef]:
    """The facts of those shards that are complete, as `read_ref` gives them one by one.

    Of an object store, by one listing; twins that are there are read by several threads.

    Raises:
        StoreError: the store does not answer.
    """
    if not is_remote(directory):
        found = ((name, read_ref(directory, name)) for name in names)
        return {name: ref for name, ref in found if ref is not None}
    sizes = sizes_in(directory)
    there = [name for name in names if f"{name}.parquet" in sizes]
    refs = for_each(directory, lambda name: recorded_ref(directory, name), there)
    return {
        name: ref
        for name, ref in zip(there, refs, strict=True)
        if ref is not None and (not ref.num_samples or sizes.get(f"{name}.tar") == ref.num_bytes)
    }


def recorded_ref(directory: Place, name: str) -> ShardRef | None:
    """What the twin says of its tar, without looking at the tar; None without a right twin."""
    try:
        data = _facts(directory, name).get(REF_FACT)
    except DataError:
        return None
    ref = None if data is None else ShardRef.from_json(data)
    return ref if ref is not None and ref.name == name else None


def read_layout(directory: Place, name: str) -> Layout | None:
    """What the samples of a shard have in common; None if it has no samples.

    Raises:
        DataError: the shard's twin is missing or damaged.
    """
    data = _facts(directory, name).get(LAYOUT_FACT)
    return None if data is None else Layout(**data)


def read_rows(directory: Place, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, sorted by key, without the file's own facts.

    Args:
        directory: where it is.
        name: of the shard.
        columns: to read; default all.

    Raises:
        DataError: the twin is missing or damaged.
    """
    return read_table(table_path(directory, name), columns).replace_schema_metadata(None)


def _facts(directory: Place, name: str) -> dict[str, JsonValue]:
    """What the twin says of its shard."""
    with parquet_file(table_path(directory, name)) as file:
        found = file.schema_arrow.metadata or {}
        return {key: json.loads(found[key.encode()]) for key in FACTS if key.encode() in found}
