"""Random access to the images of shards by byte range. Knows neither rows nor formats.

A shard of an object store is copied whole, once for all who read it on this machine: its images are
read again and again.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from generators.errors import DataError
from generators.local_copies import local_copy
from generators.places import Place, is_remote
from infra.storage.members import check_key
from infra.storage.refs import recorded_ref
from infra.storage.tar import tar_path

FETCHERS: Final = 8
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ShardReader:
    """Reads single images out of tars, keeping few files open.

    May be used from threads, pickled, and used on both sides of a fork.

    Args:
        directory: where the tars are.
        max_open: tars kept open; the least recently read is closed first.
        sha256: of tars, as far as they are known, by shard: an object store is then not asked.
    """

    def __init__(
        self, directory: Place, max_open: int = 16, sha256: Mapping[str, str] = NOTHING
    ) -> None:
        self._directory, self._max_open, self._known = directory, max(1, max_open), dict(sha256)
        self._reset()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """The bytes `offset .. offset + size` of a shard's tar.

        Raises:
            DataError: no such tar, or it ends before; or a row without an image (offset -1).
        """
        if offset < 0 or size < 0:
            raise DataError(f"shard {shard}: no image at offset {offset}, size {size}")
        if self._process != os.getpid():
            self._reset()  # another thread may have held the lock at the fork
        with self._lock:
            data = os.pread(self._file(shard).fileno(), size, offset)
        if len(data) != size:
            path = tar_path(self._directory, shard)
            raise DataError(f"{path}: ends before byte {offset + size}; the file is damaged")
        return data

    def fetch(self, shards: Iterable[str]) -> None:
        """Copies shards of an object store, several at a time, before they are read.

        Raises:
            DataError: one is missing or damaged.
            StoreError: the store does not answer.
        """
        if is_remote(self._directory):
            with ThreadPoolExecutor(FETCHERS) as threads:
                for _ in threads.map(self._local, set(shards)):
                    pass

    def close(self) -> None:
        """Closes all files; a later `read` opens them again."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Place, int, dict[str, str]]]:
        return ShardReader, (self._directory, self._max_open, self._known)

    def _reset(self) -> None:
        self._process, self._lock = os.getpid(), Lock()
        self._files: OrderedDict[str, io.FileIO] = OrderedDict()

    def _file(self, shard: str) -> io.FileIO:
        """The open tar; the caller holds the lock."""
        if shard not in self._files:
            path = self._local(shard)
            try:
                stream = path.open("rb", buffering=0)
            except FileNotFoundError as error:
                raise DataError(f"{path}: no such shard") from error
            while len(self._files) >= self._max_open:
                self._files.popitem(last=False)[1].close()
            self._files[shard] = stream
        self._files.move_to_end(shard)
        return self._files[shard]

    def _local(self, shard: str) -> Path:
        """A tar on this machine."""
        path = tar_path(self._directory, check_key(shard, "name of a shard"))
        try:
            if isinstance(path, Path):
                return path
            if shard not in self._known:
                ref = recorded_ref(self._directory, shard)
                if ref is None:
                    raise FileNotFoundError(shard)
                self._known[shard] = ref.sha256
            return local_copy(path, self._known[shard])
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such shard") from error


def hashes_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Shard to sha256 of its tar, as rows of a manifest say it; nothing where they do not."""
    return {row["shard"]: row["shard_sha256"] for row in rows if row.get("shard_sha256")}
