"""Files that appear whole or not at all. Knows nothing of what is in them.

On a disk a file is written under a temporary name in its own folder, flushed and renamed. While a
writer lives it holds a lock (`flock`) on its temporary file; `remove_temporary` can so tell what a
dead writer left from what is being written, also across containers, where process ids repeat.
For an object store it is written in the same way in a scratch folder, and uploaded as one object.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from generators.errors import DataError, OutputError
from generators.local_copies import cache_folder
from generators.places import Place, StoreError, arrow_source
from generators.registry import JsonValue
from infra.storage.files import put_bytes, read_bytes, scratch_folder, upload

TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")

ROWS_PER_GROUP: Final = 65_536
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,  # a part of the path is a file
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
    }
)


@contextmanager
def replacing(path: Place) -> Generator[BinaryIO]:
    """Opens a temporary file, to read and write, that becomes `path` when the block ends well.

    An exception inside the block leaves `path` as it was and removes the temporary file. Missing
    folders are made.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
        StoreError: an object store does not answer, or refuses.
    """
    with _replacing(path) if isinstance(path, Path) else _uploading(path) as stream:
        yield stream


@contextmanager
def _replacing(path: Path) -> Generator[BinaryIO]:
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream, temporary = _open_temporary(path)
        try:
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def _uploading(path: UPath) -> Generator[BinaryIO]:
    with _naming(cache_folder()):
        scratch = scratch_folder()
        remove_temporary(scratch)
        stream, temporary = _open_temporary(scratch / path.name)
        try:
            with stream:
                yield stream
                stream.flush()
                upload(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Place, data: bytes) -> None:
    """Writes a file atomically.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
        StoreError: an object store does not answer, or refuses.
    """
    if not isinstance(path, Path):
        put_bytes(path, data)
        return
    with replacing(path) as stream:
        stream.write(data)


def write_json(path: Place, value: JsonValue) -> None:
    """Writes JSON with sorted keys, indented, UTF-8, atomically. NaN is refused.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def read_json(path: Place) -> JsonValue:
    """Reads a JSON file."""
    return json.loads(read_bytes(path))


def write_table(path: Place, table: pa.Table, facts: Mapping[str, str] | None = None) -> None:
    """Writes a Parquet file atomically: equal tables give equal bytes, however they are chunked.

    Args:
        path: where.
        table: rows; its own schema metadata is dropped.
        facts: texts for the file's schema metadata.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as stream:
        dump_table(stream, table, facts)


def dump_table(stream: BinaryIO, table: pa.Table, facts: Mapping[str, str] | None = None) -> None:
    """Writes a Parquet file to an open one. Arguments as in `write_table`."""
    dump_tables(stream, table.schema, [table], facts)


def dump_tables(
    stream: BinaryIO,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    facts: Mapping[str, str] | None = None,
) -> int:
    """Writes tables of one schema as one Parquet file, as `dump_table` would their sum.

    Keeps a group of rows in memory, and one table.

    Returns:
        Rows written.
    """
    plain = schema.with_metadata(dict(sorted((facts or {}).items())) or None)
    options = {"compression": "zstd", "write_page_checksum": True}
    waiting, num_rows = plain.empty_table(), 0
    with pq.ParquetWriter(stream, plain, **options) as writer:

        def write(group: pa.Table) -> None:
            # One chunk a row group: dictionary and data pages would else end where chunks do.
            writer.write_table(group.combine_chunks(), row_group_size=ROWS_PER_GROUP)

        for table in tables:
            num_rows += table.num_rows
            waiting = pa.concat_tables([waiting, table.replace_schema_metadata(plain.metadata)])
            start = 0
            while waiting.num_rows - start > ROWS_PER_GROUP:
                write(waiting.slice(start, ROWS_PER_GROUP))
                start += ROWS_PER_GROUP
            waiting = waiting.slice(start)
        write(waiting)
    return num_rows


def read_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a Parquet file, checking its pages; the file is closed when this returns.

    Args:
        path: of the file.
        columns: to read; default all.

    Raises:
        DataError: the file is missing or damaged.
        StoreError: an object store does not answer.
    """
    # not pq.read_table: a background thread closes its file some time later
    with parquet_file(path) as file:
        return file.read(columns=None if columns is None else list(columns))


@contextmanager
def parquet_file(path: Place) -> Generator[pq.ParquetFile]:
    """Opens a Parquet file to read; pages are checked. The block does nothing but read it.

    Raises:
        DataError: the file is missing or damaged, or lacks what the block looks for.
        StoreError: an object store does not answer.
    """
    try:
        with (
            arrow_source(path) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            yield file
    except StoreError:
        raise
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: missing or damaged ({error})") from error


def remove_temporary(directory: Place) -> list[Path]:
    """Removes temporary files that dead writers left in a folder; those of living ones stay.

    Object stores have none.

    Returns:
        What was removed, sorted. A file whose lock cannot be asked for (some network file systems)
        stays.
    """
    removed = []
    for path in temporary_files(directory):
        with suppress(OSError), path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path)
    return removed


def abandoned_files(directory: Path) -> list[Path]:
    """Temporary files in a folder whose writers are dead, sorted."""
    abandoned = []
    for path in temporary_files(directory):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            abandoned.append(path)
    return abandoned


def temporary_files(directory: Place) -> list[Path]:
    """Temporary files in a folder, of dead and living writers, sorted."""
    if not isinstance(directory, Path) or not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if TEMPORARY.fullmatch(path.name))


def _open_temporary(path: Path) -> tuple[BinaryIO, Path]:
    """A new, locked file beside `path`, and its name."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        stream = temporary.open("x+b")
        with suppress(OSError):  # a file system without locks: written all the same
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream, temporary
        stream.close()  # `remove_temporary` came between opening and locking


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Turns errors of the operating system that the user can mend into `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise OutputError(
                f"no space left to write {path}: {_free_bytes(path)} bytes are free there; "
                "free some and run the same command again"
            ) from error
        if error.errno in NOT_WRITABLE:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        raise


def _free_bytes(path: Path) -> int:
    """Free bytes where `path` is or would be."""
    return shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free


def _sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
