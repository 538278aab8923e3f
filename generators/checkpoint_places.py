"""Where checkpoints are: on this machine, or in an object store and copied here once.

What a checkpoint decides is hashed from its bytes, so it is the same network wherever it was.
"""

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
