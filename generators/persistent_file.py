"""A file that goes on where a connection ended."""

import io
import os
from collections.abc import Callable
from typing import Any


class PersistentFile(io.RawIOBase):
    """A file of an object store whose reads are tried again.

    Args:
        stream: the store's.
        persistently: calls a function, again where it fails.
    """

    def __init__(self, stream: Any, persistently: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._stream, self._persistently = stream, persistently

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        position: int = self._stream.seek(offset, whence)
        return position

    def tell(self) -> int:
        """As of any file."""
        position: int = self._stream.tell()
        return position

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer from the current position, again from there after a failure."""
        start = self._stream.tell()

        def read() -> bytes:
            self._stream.seek(start)
            data: bytes = self._stream.read(len(buffer))
            return data

        data = self._persistently(read)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self._stream.close()
        super().close()
