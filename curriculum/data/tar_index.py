"""Where the members of WebDataset samples are in a tar. Reads headers only, and knows no labels."""

import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from curriculum.data.files import printable
from generators.errors import DataError

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


def scan_tar(path: Path) -> list[TarSample]:
    """All samples of a tar in order of appearance; their members need not be next to each other.

    Raises:
        DataError: no uncompressed tar, a damaged one, or a member twice.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if not member.isreg() or match is None or _is_meta(member.name):
                    continue
                members = found.setdefault(printable(match[1]), {})
                suffix = match[2].lower()
                if suffix in members:
                    raise DataError(f"{path}: member {printable(member.name)!r} is there twice")
                members[suffix] = (member.offset_data, member.size)
            end = tar.offset
    except (OSError, tarfile.TarError) as error:
        detail = "; compressed tars cannot be read by position" if _is_compressed(path) else ""
        raise DataError(f"{path}: cannot be read as a tar: {error}{detail}") from error
    _check_end(path, end)
    return [TarSample(key=key, members=members) for key, members in found.items()]


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a member.

    Raises:
        OSError: the file cannot be read, or has become shorter.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    if len(data) < size:
        raise OSError(f"{path} ends at byte {offset + len(data)}, within a member")
    return data


def _is_meta(name: str) -> bool:
    """Members like `__index__.json`, which the `webdataset` library leaves out, too."""
    stem = name.rpartition("/")[2].partition(".")[0]
    return stem.startswith("__") and stem.endswith("__")


def _is_compressed(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(6)
    except OSError:
        return False
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))


def _check_end(path: Path, end: int) -> None:
    """Refuses tars with a damaged header, which tarfile takes for their end; a real end is zeros.

    Raises:
        DataError: something else is there.
    """
    with path.open("rb") as stream:
        stream.seek(end)
        block = stream.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):
        raise DataError(f"{path}: damaged at byte {end}: no tar header where one is expected")
