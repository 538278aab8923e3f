"""Random access to the images of shards by byte range. Knows neither rows nor formats.

A shard of an object store is copied whole, once for all who read it on this machine: its images are
read again and again.
"""

import io
import os
from collections import OrderedDict
from threading import Lock
from types import TracebackType
from typing import Self

from generators.errors import DataError
from generators.local_copies import local_copy
from generators.places import Place, is_remote
from infra.storage.members import check_key
from infra.storage.refs import recorded_ref
from infra.storage.tar import tar_path


class ShardReader:
    """Reads single images out of tars, keeping few files open.

    May be used from threads, pickled, and used on both sides of a fork.

    Args:
        directory: where the tars are.
        max_open: tars kept open; the least recently read is closed first.
    """

    def __init__(self, directory: Place, max_open: int = 16) -> None:
        self._directory, self._max_open = directory, max(1, max_open)
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

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Place, int]]:
        return ShardReader, (self._directory, self._max_open)

    def _reset(self) -> None:
        self._process, self._lock = os.getpid(), Lock()
        self._files: OrderedDict[str, io.FileIO] = OrderedDict()

    def _file(self, shard: str) -> io.FileIO:
        """The open tar; the caller holds the lock."""
        if shard not in self._files:
            path = tar_path(self._directory, check_key(shard, "name of a shard"))
            try:
                stream = local_copy(path, self._sha256(shard)).open("rb", buffering=0)
            except FileNotFoundError as error:
                raise DataError(f"{path}: no such shard") from error
            while len(self._files) >= self._max_open:
                self._files.popitem(last=False)[1].close()
            self._files[shard] = stream
        self._files.move_to_end(shard)
        return self._files[shard]

    def _sha256(self, shard: str) -> str:
        """What the twin says of a tar that is to be copied; empty on a disk."""
        if not is_remote(self._directory):
            return ""
        ref = recorded_ref(self._directory, shard)
        if ref is None:
            raise FileNotFoundError(shard)
        return ref.sha256
