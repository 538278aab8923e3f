"""What a checkpoint's files say, as a hash: independent of where they are and who wrote them."""

import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from generators.latent.weights import read_json
from generators.registry import JsonValue, canonical_json

SHA256 = re.compile(r"[0-9a-f]{64}")
NOTES = frozenset({"transformers_version", "torch_dtype", "dtype", "architectures"})
"""Config entries that decide nothing here: the data type is always given when loading."""


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits; each file is read once per process.

    The hub's cache names large files by this very hash, so those are not read at all.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and SHA256.fullmatch(real.name):
        return real.name
    stat = real.stat()
    return _read(real, stat.st_size, stat.st_mtime_ns)


@cache
def _read(path: Path, size: int, mtime_ns: int) -> str:
    """Size and time are in the key: a file that was replaced is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config_hash(path: Path) -> str:
    """sha256 of what a config decides: not of its layout, nor of versions and paths noted in it."""
    return hashlib.sha256(canonical_json(decisive(read_json(path))).encode()).hexdigest()


def decisive(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A config without notes on its making; infinities, which JSON cannot hold, spelt out."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in config.items()
        if key == "_class_name" or not (key.startswith("_") or key in NOTES)
    }
