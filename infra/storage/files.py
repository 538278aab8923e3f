"""Files of an output, alike on a disk and in an object store. Knows nothing of what is in them.

An object of a store appears whole or not at all: a large one is sent in parts, and the last request
makes them one object. What is on its way there waits in a scratch folder of this machine, not in
memory.
"""

import hashlib
import mimetypes
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from upath import UPath

from generators.local_copies import cache_folder
from generators.places import Place, opened, persistently

T = TypeVar("T")
PART_BYTES: Final = 16 * 2**20
"""Of large objects; two are in memory at a time."""

S3: Final = frozenset({"s3", "s3a"})
READERS: Final = 16
"""Threads that read small files of an object store."""
GCS: Final = frozenset({"gs", "gcs"})


def read_bytes(where: Place) -> bytes:
    """A whole file that fits in memory.

    Raises:
        FileNotFoundError: there is none.
        StoreError: the store does not answer.
    """
    if isinstance(where, Path):
        return where.read_bytes()
    data: bytes = _asked(where, lambda: where.fs.cat_file(where.path))
    return data


def put_bytes(where: UPath, data: bytes, *, new: bool = False) -> None:
    """Writes an object.

    Args:
        where: its URL.
        data: that fits in memory.
        new: nothing may be there; a store that cannot promise it writes all the same.

    Raises:
        FileExistsError: something is there.
        StoreError: the store does not answer, or refuses.
    """
    mode = "create" if new else "overwrite"
    options = _content_type(where)
    _asked(where, lambda: where.fs.pipe_file(where.path, data, mode=mode, **options))


def upload(path: Path, where: UPath) -> None:
    """Copies a file of this machine to an object store.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    options = _content_type(where)
    if where.protocol in S3:
        options |= {"chunksize": PART_BYTES, "max_concurrency": 2}
    elif where.protocol in GCS:
        options |= {"chunksize": PART_BYTES}
    _asked(where, lambda: where.fs.put_file(str(path), where.path, **options))


@contextmanager
def written_locally(where: Place, last: str = "") -> Iterator[Path]:
    """A path for what a library writes by itself, a file or a folder; uploaded at the block's end.

    Args:
        where: the path itself, on a disk.
        last: name of the file of a folder that marks it complete.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    if isinstance(where, Path):
        yield where
        return
    with TemporaryDirectory(dir=scratch_folder(), ignore_cleanup_errors=True) as folder:
        made = Path(folder) / where.name
        yield made
        if made.is_file():
            upload(made, where)
            return
        names = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
        for name in sorted(names, key=lambda name: (name == last, name)):
            upload(made / name, where / name)


def scratch_folder() -> Path:
    """Where files wait that are written for an object store; made if missing."""
    folder = cache_folder() / "scratch"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def sizes_in(folder: Place) -> dict[str, int]:
    """Names of the files in a folder and their bytes, sorted, by one listing; none, if missing.

    Raises:
        StoreError: the store does not answer.
    """
    found: dict[str, int] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(folder, Path):
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # removed since it was listed
                    if path.is_file():
                        found[path.name] = path.stat().st_size
        else:
            for info in _asked(folder, lambda: folder.fs.ls(folder.path, detail=True)):
                name = info["name"].rstrip("/").rpartition("/")[2]
                if info["type"] == "file" and not info["name"].endswith("/"):
                    found[name] = info["size"]
    return dict(sorted(found.items()))


def size_of(where: Place) -> int:
    """Bytes of a file.

    Raises:
        FileNotFoundError: there is none.
        StoreError: the store does not answer.
    """
    if isinstance(where, Path):
        return where.stat().st_size
    size: int = _asked(where, lambda: where.fs.info(where.path)["size"])
    return size


def remove(where: Place) -> None:
    """Removes a file; nothing where there is none.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        _asked(where, lambda: where.fs.rm_file(where.path))


def folders_in(folder: Place) -> list[Place]:
    """The folders in a folder, sorted; none, if it is missing.

    Raises:
        StoreError: the store does not answer.
    """
    names: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(folder, Path):
            names = [path.name for path in folder.iterdir() if path.is_dir()]
        else:
            listed = _asked(folder, lambda: folder.fs.ls(folder.path, detail=True))
            folders = [info["name"] for info in listed if info["type"] == "directory"]
            names = [name.rstrip("/").rpartition("/")[2] for name in folders]
    return [folder / name for name in sorted(names)]


def remove_folder(where: Place) -> None:
    """Removes a folder with all that is in it; nothing where there is none.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    with suppress(FileNotFoundError):
        if isinstance(where, Path):
            shutil.rmtree(where)
        else:
            _asked(where, lambda: where.fs.rm(where.path, recursive=True))


def make_folder(where: Place) -> None:
    """Makes a folder of a disk; object stores have none."""
    if isinstance(where, Path):
        where.mkdir(parents=True, exist_ok=True)


def for_each(where: Place, work: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """What a function that reads in a folder gives for each name, in order.

    Of an object store, whose answers take their time, several at a time, ahead of what is taken.
    """
    if isinstance(where, Path):
        yield from map(work, names)
        return
    threads, waiting = ThreadPoolExecutor(READERS), deque[Future[T]]()
    try:
        for name in names:
            waiting.append(threads.submit(work, name))
            if len(waiting) > 2 * READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def file_sha256(path: Place) -> str:
    """Hash of a file's bytes, 64 hex digits. Bounded memory.

    Raises:
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _content_type(where: UPath) -> dict[str, Any]:
    """What browsers want to know of an object, as its store calls it."""
    kind = mimetypes.guess_type(where.name)[0] or "application/octet-stream"
    if where.protocol in S3:
        return {"ContentType": kind}
    return {"content_type": kind} if where.protocol in GCS else {}


def _asked(where: UPath, ask: Callable[[], Any]) -> Any:
    return persistently(ask, str(where))
