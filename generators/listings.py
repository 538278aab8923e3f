"""What a folder holds, on a disk or in an object store, by one listing. Reads no file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from generators.places import Place, persistently

VERSIONS: Final = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "updated", "created")
"""What stores call that which changes with a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a store says of a file without its bytes: size, and text that changes when it does."""

    num_bytes: int
    version: str


def files_below(where: Place) -> dict[str, FileFacts]:
    """All files below a folder by their names in it, of one listing; of a file, itself as ``.

    Raises:
        FileNotFoundError: there is nothing.
        StoreError: the store does not answer.
    """
    if isinstance(where, Path):
        paths = [where] if where.is_file() else [p for p in where.rglob("*") if p.is_file()]
        below = {"" if path == where else path.relative_to(where).as_posix() for path in paths}
        found = {name: (where / name).stat() for name in below}
        facts = {
            name: FileFacts(num_bytes=s.st_size, version=str(s.st_mtime_ns))
            for name, s in found.items()
        }
    else:
        listed = persistently(lambda: where.fs.find(where.path, detail=True), str(where))
        start = where.fs._strip_protocol(where.path.rstrip("/"))
        names = {name: name[len(start) :].lstrip("/") for name in listed if name[-1] != "/"}
        facts = {names[path]: _facts(listed[path]) for path in names}
    if not facts:
        raise FileNotFoundError(f"{where}: nothing is there")
    return facts


def _facts(info: dict[str, Any]) -> FileFacts:
    version = [str(info[name]) for name in VERSIONS if name in info]
    return FileFacts(num_bytes=info["size"] or 0, version=" ".join(version))
