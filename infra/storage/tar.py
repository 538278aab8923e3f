"""Where the files of a shard are, and how its tar is written. Knows no rows."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from generators.places import Place
from generators.registry import canonical_json
from infra.storage.members import ShardMember

ByteRanges = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTar:
    """What was written.

    Attributes:
        ranges: sample key to the byte range (offset, size) of its image in the tar.
        num_bytes: size of the tar.
        sha256: of its bytes, 64 hex digits.
    """

    ranges: ByteRanges
    num_bytes: int
    sha256: str


def tar_path(directory: Place, name: str) -> Place:
    """Where the images of a shard are."""
    return directory / f"{name}.tar"


def table_path(directory: Place, name: str) -> Place:
    """Where the rows of a shard are."""
    return directory / f"{name}.parquet"


def write_tar(stream: BinaryIO, members: Sequence[ShardMember]) -> WrittenTar:
    """Writes samples as they come: `.cls`, `.json`, image, contiguous and in this order.

    Equal samples give equal bytes: no times, owners or modes of files get in.

    Args:
        stream: empty, readable and writable.
        members: sorted by key and checked.
    """
    ranges: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            _add(tar, f"{member.key}.cls", str(int(member.label)).encode("ascii"))
            _add(tar, f"{member.key}.json", canonical_json(dict(member.info)).encode("ascii"))
            # an ustar entry has one header block
            ranges[member.key] = (stream.tell() + tarfile.BLOCKSIZE, len(member.image))
            _add(tar, f"{member.key}.{member.extension}", member.image)
    num_bytes = stream.tell()
    stream.seek(0)
    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    return WrittenTar(ranges=ranges, num_bytes=num_bytes, sha256=sha256)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds one file; `TarInfo` fixes the rest: mtime 0, owner 0 without a name, mode 644."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
