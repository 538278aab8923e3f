"""What is done to the files of a finished run. Each function says which file it has damaged."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One way to damage a run.

    Attributes:
        do: damages a file of the folder of shards, and returns it.
        seen: a run that is started again sees it by itself; else the user removes what the check
            has named.
    """

    do: Callable[[Path, random.Random], Path]
    seen: bool = True


def truncate(shards: Path, chance: random.Random) -> Path:
    """Cuts a tar in half."""
    path = _any(shards, "*.tar", chance)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    return path


def flip_bit(shards: Path, chance: random.Random) -> Path:
    """Changes one bit of a tar: its size stays."""
    path = _any(shards, "*.tar", chance)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return path


def remove(shards: Path, chance: random.Random) -> Path:
    """Removes a tar."""
    path = _any(shards, "*.tar", chance)
    path.unlink()
    return path


def tear_rows(shards: Path, chance: random.Random) -> Path:
    """Cuts a Parquet twin in half."""
    path = _any(shards, "*.parquet", chance)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


DAMAGES: Final = {
    "truncate": Damage(do=truncate),
    "remove": Damage(do=remove),
    "tear_rows": Damage(do=tear_rows),
    "bit_flip": Damage(do=flip_bit, seen=False),
}
"""By name."""


def _any(shards: Path, pattern: str, chance: random.Random) -> Path:
    return chance.choice(sorted(shards.glob(pattern)))
