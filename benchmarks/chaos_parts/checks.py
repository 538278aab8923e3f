"""What must hold after a round: nothing lost, nothing twice, the same bytes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow.parquet as pq

from infra.jobs.verify import verify
from infra.storage.atomic import temporary_files
from infra.storage.check import check_store
from infra.storage.runs import RunStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Undisturbed:
    """What a run that nothing happened to has left behind.

    Attributes:
        run: its folder.
        files: bytes of its shards, twins, levels and manifests by their place in the folder.
        keys: of the requests of its manifest.
    """

    run: Path
    files: dict[Path, bytes]
    keys: frozenset[str]

    @classmethod
    def read(cls, run: Path) -> Self:
        """Everything of a finished run."""
        return cls(run=run, files=kept_files(run), keys=frozenset(_keys(run)))

    def shards(self) -> int:
        """How many synthetic shards it has."""
        return sum(
            path.parent.name == "shards" and path.suffix == ".parquet" for path in self.files
        )

    def problems(self, run: Path) -> list[str]:
        """How another run differs from it, and what is wrong with that by itself."""
        if not (run / "manifest.parquet").is_file():
            return [*damages(run), "there is no manifest"]
        keys, files = Counter(_keys(run)), kept_files(run)
        both = sorted(files.keys() & self.files.keys())
        return [
            *damages(run),
            *(f"{key}: {n} times in the manifest" for key, n in keys.items() if n > 1),
            *(f"{key}: missing in the manifest" for key in sorted(self.keys - keys.keys())),
            *(f"{key}: nobody asked for it" for key in sorted(keys.keys() - self.keys)),
            *(f"{path}: missing" for path in sorted(self.files.keys() - files.keys())),
            *(f"{path}: not expected" for path in sorted(files.keys() - self.files.keys())),
            *(f"{path}: other bytes" for path in both if files[path] != self.files[path]),
        ]


def kept_files(run: Path) -> dict[Path, bytes]:
    """Bytes of all files of a run that must not depend on what happened to it."""
    return {
        path.relative_to(run): path.read_bytes()
        for folder in (run / "real", run / "shards", run / "levels", run)
        for path in sorted(folder.glob("*"))
        if path.suffix in {".tar", ".parquet"}
    }


def damages(run: Path) -> list[str]:
    """What is wrong with the shards of a run, every byte read; and temporary files left."""
    store = RunStore(run)
    found = []
    for folder in (run / "real", run / "shards"):
        names = sorted(path.stem for path in folder.glob("*.parquet"))
        found += [f"{p.path.name}: {p.code}: {p.detail}" for p in check_store(folder, names)]
    for place in (store.root, store.levels, store.scores):
        found += [f"{path.name}: temporary file" for path in temporary_files(place)]
    return found


def complete_shards(run: Path) -> dict[Path, int]:
    """Twins of the synthetic shards that are complete, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (run / "shards").glob("*.parquet")}


def made_again(before: Mapping[Path, int], run: Path) -> list[str]:
    """Shards that were complete before and have been written since."""
    now = complete_shards(run)
    return [f"{path.name}: made again" for path in sorted(before) if now.get(path) != before[path]]


def verified(run: Path) -> list[str]:
    """What `discl verify` says is wrong."""
    found = verify(RunStore(run)).problems
    return [f"{problem.path.name}: {problem.code}: {problem.detail}" for problem in found]


def _keys(run: Path) -> list[str]:
    """Read by pyarrow alone: not by what is under test."""
    keys: list[str] = pq.read_table(run / "manifest.parquet", columns=["key"])["key"].to_pylist()
    return keys
