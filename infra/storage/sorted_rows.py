"""Rows of many parts in one sorted Parquet file, without ever holding all of them.

Parts are read in the order of the smallest row each may hold; what no later part can precede is
written. In memory is so what neighbouring parts overlap in: where they come from a plan, the rows
of one class at one level.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from generators.errors import DataError
from generators.places import Place
from infra.storage.atomic import dump_tables, parquet_file, replacing
from infra.storage.manifest import ORDER, column_order

KEY: Final = re.compile("[0-9a-f]{32}")
Position = tuple[int, int]
"""Image guidance and label: where in the order of a manifest a row comes, but for its key."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Rows that are read when their turn comes.

    Attributes:
        first: no row of it comes before this place.
        schema: of its rows, as far as it is known without reading them.
        read: reads them.
    """

    first: Position
    schema: pa.Schema
    read: Callable[[], pa.Table]


def write_sorted(path: Place, parts: Iterable[Part]) -> int:
    """Writes all rows as one file, atomically, as `commit_manifest` would; returns how many.

    Args:
        path: of the file.
        parts: in any order. A column that only some have is null in the others.

    Raises:
        DataError: no part, a key that occurs twice or is none of a request, or columns whose types
            do not fit.
        OutputError: the disk is full, or the folder cannot be written.
    """
    ordered = sorted(parts, key=lambda part: part.first)
    if not ordered:
        raise DataError(f"{path}: no rows to write")
    first = ordered[0].read()
    keys: list[bytes] = []
    try:
        schema = _common_schema([first.schema, *(part.schema for part in ordered)])
        with replacing(path) as stream:
            tables = (_noted(table, keys) for table in _in_order(ordered, first, schema))
            num_rows = dump_tables(stream, schema, tables)
            _require_unique(b"".join(keys), str(path))
    except pa.ArrowException as error:
        raise DataError(f"{path}: rows of shards do not fit together: {error}") from error
    return num_rows


def file_parts(path: Place) -> list[Part]:
    """The row groups of a file that `write_sorted` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    with parquet_file(path) as file:
        schema = file.schema_arrow
        groups = range(file.num_row_groups)
        firsts = [_smallest(file.metadata, group) for group in groups]

    def reader(group: int) -> Callable[[], pa.Table]:
        return lambda: _read_group(path, group)

    return [
        Part(first=first, schema=schema, read=reader(group))
        for group, first in zip(groups, firsts, strict=True)
    ]


def shard_part(path: Place, read: Callable[[], pa.Table]) -> Part:
    """A shard's twin, read in a way of the caller's.

    Raises:
        DataError: the file is missing or damaged.
    """
    with parquet_file(path) as file:
        groups = range(file.num_row_groups)
        first = min(_smallest(file.metadata, group) for group in groups)
        return Part(first=first, schema=file.schema_arrow, read=read)


def _read_group(path: Place, group: int) -> pa.Table:
    with parquet_file(path) as file:
        return file.read_row_group(group)


def _smallest(metadata: pq.FileMetaData, group: int) -> Position:
    """A place before all rows of a group, by the statistics in the file's footer."""
    names = [metadata.schema.column(index).name for index in range(metadata.num_columns)]
    found = [metadata.row_group(group).column(names.index(name)) for name in ORDER[:2]]
    if any(column.statistics is None or not column.statistics.has_min_max for column in found):
        return (0, 0)
    return found[0].statistics.min, found[1].statistics.min


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns in the order of a manifest."""
    plain = list(dict.fromkeys(schema.remove_metadata() for schema in schemas))
    whole = pa.unify_schemas(plain)
    return pa.schema([whole.field(name) for name in column_order(whole.names)])


def _in_order(ordered: Sequence[Part], first: pa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
    """All rows, sorted, in tables of any size."""
    held, lowest = [_with_schema(first, schema)], ordered[0].first
    for part in ordered[1:]:
        if lowest < part.first:
            whole = pa.concat_tables(held)
            ready = _before(whole, part.first)
            yield whole.filter(ready).sort_by([(name, "ascending") for name in ORDER])
            held, lowest = [whole.filter(pc.invert(ready))], part.first
        held.append(_with_schema(part.read(), schema))
    yield pa.concat_tables(held).sort_by([(name, "ascending") for name in ORDER])


def _before(rows: pa.Table, place: Position) -> pa.ChunkedArray:
    """Which rows come before a place."""
    level, label = (rows.column(name) for name in ORDER[:2])
    same = pc.and_(pc.equal(level, place[0]), pc.less(label, place[1]))
    return pc.or_(pc.less(level, place[0]), same)


def _with_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    plain = rows.replace_schema_metadata(None)
    return pa.concat_tables([schema.empty_table(), plain], promote_options="default")


def _noted(rows: pa.Table, keys: list[bytes]) -> pa.Table:
    """The rows; their keys, 16 bytes each, are added to `keys`.

    Raises:
        DataError: a key that is none of a request.
    """
    texts = rows.column("key").to_pylist()
    for text in texts:
        if text is None or not KEY.fullmatch(text):
            raise DataError(f"{text!r}: not the key of a request")
    keys.append(bytes.fromhex("".join(texts)))
    return rows


def _require_unique(keys: bytes, where: str) -> None:
    """Raises DataError, naming a key, if one occurs twice."""
    halves = np.frombuffer(keys, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
    twice = np.flatnonzero((halves[1:] == halves[:-1]).all(1))
    if len(twice):
        key = "".join(f"{half:016x}" for half in halves[twice[0]].tolist())
        raise DataError(f"{where}: the key {key!r} occurs twice")
