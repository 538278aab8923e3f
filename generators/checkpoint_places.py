"""Where checkpoints are: on this machine, or in an object store and copied here once.

What a checkpoint decides is hashed from its bytes, so it is the same network wherever it was.
"""

import hashlib
import json
from pathlib import Path

from generators.errors import CheckpointError
from generators.local_copies import local_copy
from generators.places import is_remote, opened, place


def local_checkpoint(path: str, at: str) -> Path:
    """A file or folder of this machine; what a URL names is copied whole to the user's cache.

    Args:
        path: a path, which need not exist, or a URL.
        at: the config field to name in errors.

    Raises:
        CheckpointError: there is nothing at a URL.
        ConfigError: a URL that is not read, or has credentials in it.
        StoreError: the store does not answer.
    """
    where = place(path, at)
    try:
        return local_copy(where)
    except FileNotFoundError as error:
        raise CheckpointError(f"{at}: nothing at {path!r} in the object store") from error


def remote_file(path: str, name: str, at: str) -> bytes | None:
    """A small file in the folder that a URL names, without the rest; None for a path.

    Args:
        path: a path or a URL.
        name: of the file.
        at: the config field to name in errors.

    Raises:
        CheckpointError: no such file.
        ConfigError: as above.
        StoreError: the store does not answer.
    """
    where = place(path, at)
    if not is_remote(where):
        return None
    try:
        with opened(where / name) as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise CheckpointError(f"{at}: no {name} at {path!r} in the object store") from error


def contents_sha256(path: str, at: str) -> str:
    """Hash of a file's bytes, or of the names and bytes of all files of a folder; 64 hex digits.

    Raises:
        CheckpointError: there is nothing.
    """
    found = local_checkpoint(path, at)
    files = [found] if found.is_file() else sorted(f for f in found.rglob("*") if f.is_file())
    if not files:
        raise CheckpointError(f"{at}: no file at {path!r}")
    digest = hashlib.sha256()
    for file in files:
        digest.update(json.dumps(file.relative_to(found).as_posix()).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
