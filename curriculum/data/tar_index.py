"""Where the members of WebDataset samples are in a tar. Reads headers only, and knows no labels."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from generators.errors import DataError
from generators.places import Place, opened, printable

MAX_HEADER_BYTES: Final = 2**20
"""Of names and notes before a member; a tar may declare any size for them."""

MAX_MEMBERS: Final = 20_000_000
"""Of one tar: headers are small, and a list of them is kept."""

# The key ends at the first dot of the file name, as in the `webdataset` library.
MEMBER: Final = re.compile(r"((?:.*/|)[^./]+)[.]([^/]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSample:
    """One sample of a tar.

    Attributes:
        key: common name of its members.
        members: suffix in lower case, without the dot, to byte range (offset, size).
    """

    key: str
    members: Mapping[str, tuple[int, int]]


def scan_tar(path: Place) -> list[TarSample]:
    """All samples of a tar in order of appearance; their members need not be next to each other.

    Raises:
        DataError: no uncompressed tar, a damaged one, or a member twice.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with opened(path) as stream:
            headers: Any = _Headers(stream)
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                for member in _members(tar, path):
                    match = MEMBER.fullmatch(member.name)
                    if not member.isreg() or match is None or _is_meta(member.name):
                        continue
                    members = found.setdefault(printable(match[1]), {})
                    suffix = match[2].lower()
                    if suffix in members:
                        raise DataError(f"{path}: member {printable(member.name)!r} is there twice")
                    members[suffix] = (member.offset_data, member.size)
                _check_end(path, stream, tar.offset)
    except (OSError, tarfile.TarError, ValueError) as error:
        detail = "; compressed tars cannot be read by position" if _is_compressed(path) else ""
        raise DataError(f"{path}: cannot be read as a tar: {error}{detail}") from error
    return [TarSample(key=key, members=members) for key, members in found.items()]


def _members(tar: Any, path: Place) -> Iterator[tarfile.TarInfo]:
    """Headers one by one; tarfile would keep them all."""
    for count, member in enumerate(iter(tar.next, None)):
        if count >= MAX_MEMBERS:
            raise DataError(f"{path}: more than {MAX_MEMBERS} members")
        yield member
        tar.members.clear()


class _Headers:
    """A tar that only headers are read of: one that wants more is refused, whatever it declares."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """At most a header and its notes."""
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes, more than {MAX_HEADER_BYTES}")
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        """As of any file."""
        return self._stream.seek(offset)

    def tell(self) -> int:
        """As of any file."""
        return self._stream.tell()


def _is_meta(name: str) -> bool:
    """Members like `__index__.json`, which the `webdataset` library leaves out, too."""
    stem = name.rpartition("/")[2].partition(".")[0]
    return stem.startswith("__") and stem.endswith("__")


def _is_compressed(path: Place) -> bool:
    try:
        with opened(path) as stream:
            start = stream.read(6)
    except OSError:
        return False
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))


def _check_end(path: Place, stream: IO[bytes], end: int) -> None:
    """Refuses tars with a damaged header, which tarfile takes for their end; a real end is zeros.

    Raises:
        DataError: something else is there.
    """
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise DataError(f"{path}: damaged at byte {end}: no tar header where one is expected")
