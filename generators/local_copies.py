"""Files and folders of object stores, copied to this machine once. Knows no formats.

Copies are kept in the user's cache folder: `DISCL_CACHE`, else `discl` below `XDG_CACHE_HOME` or
`~/.cache`. Together they take at most `DISCL_CACHE_BYTES` (default 20e9): those that were not used
for longest are removed, but none that was used within the last quarter of an hour.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from generators.errors import DataError
from generators.listings import FileFacts, files_below
from generators.places import Place, StoreError, name_parts, opened, read_range

PART_BYTES: Final = 8 * 2**20
"""Held in memory at a time."""

DEFAULT_BYTES: Final = 20_000_000_000
KEPT_SECONDS: Final = 900.0


def cache_folder() -> Path:
    """Where copies and other files that may be made again are kept."""
    own = os.environ.get("DISCL_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "discl"


def local_copy(where: Place, sha256: str = "") -> Path:
    """A file or folder as a path of this machine; local ones are returned as they are.

    It is as it was in the store at one moment, whole, and copied again only when the store says
    that it has changed. Must not be written to.

    Args:
        where: a file, or a folder with all files below.
        sha256: of a file, 64 hex digits: another content is refused, and the store is not even
            asked where a copy is there.

    Raises:
        FileNotFoundError: there is nothing.
        DataError: a file is not what its hash says, or a name leads out of its folder.
        StoreError: the store does not answer, or the file changes while it is copied.
    """
    if isinstance(where, Path):
        return where
    folder, name = cache_folder() / "copies", name_parts(where)[-1]
    files = {} if sha256 else files_below(where)
    # Another file with the same bytes has another name, and is another copy.
    listed = json.dumps([str(where), sorted(map(str, files.items()))])
    facts = f"{sha256} {name}" if sha256 else listed
    entry = folder / hashlib.sha256(facts.encode()).hexdigest()[:32]
    with suppress(FileNotFoundError):
        os.utime(entry)  # the time of its last use
        return entry / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(entry.with_suffix(".lock")):
        if not entry.is_dir():
            partial = entry.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            if sha256:
                _download_checked(where, sha256, partial / name)
            else:
                _download(where, files, partial / name)
            partial.rename(entry)
            make_room(folder, keep=entry)
    return entry / name


def make_room(folder: Path, keep: Path) -> None:
    """Removes the copies that were not used for longest until the rest fits its limit."""
    limit = int(float(os.environ.get("DISCL_CACHE_BYTES") or DEFAULT_BYTES))
    entries = []
    for path in folder.iterdir():
        if path.suffix.startswith(".gone"):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir() and not path.suffix and path != keep:
            with suppress(FileNotFoundError):
                entries.append((path.stat().st_mtime, path, _num_bytes(path)))
    total = _num_bytes(keep) + sum(num_bytes for _, _, num_bytes in entries)
    for used, path, num_bytes in sorted(entries):
        if total <= limit or used > time.time() - KEPT_SECONDS:
            return
        with suppress(OSError):  # another process was faster
            gone = path.rename(path.with_suffix(f".gone{secrets.token_hex(4)}"))
            shutil.rmtree(gone, ignore_errors=True)
        total -= num_bytes


def _download(where: Place, files: Mapping[str, FileFacts], target: Path) -> None:
    """Copies files, in parts; those of a folder by their names in it."""
    for name, facts in sorted(files.items()):
        if name and (".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute()):
            raise DataError(f"{where}: the name {name!r} leads out of the folder")
        source, path = (where / name, target / name) if name else (where, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            for start in range(0, facts.num_bytes, PART_BYTES):
                size = min(PART_BYTES, facts.num_bytes - start)
                stream.write(read_range(source, start, size))
    if files_below(where) != files:
        raise StoreError(f"{where} changed while it was copied")


def _download_checked(where: Place, sha256: str, target: Path) -> None:
    """Copies one file, in parts, and checks its hash."""
    target.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    with opened(where) as source, target.open("xb") as stream:
        while part := source.read(PART_BYTES):
            digest.update(part)
            stream.write(part)
    if (found := digest.hexdigest()) != sha256:
        raise DataError(f"{where}: damaged; its sha256 is {found}, recorded is {sha256}")


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; a lock ends with its process."""
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
