"""Checks a whole output against itself. Reads every byte of it, repairs and writes nothing.

It may run beside a run at work: what that is just writing is then no problem.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from generators.errors import DataError, OutputError
from generators.places import Place, StoreError, file_exists, is_remote
from infra.storage.atomic import abandoned_files, parquet_file, read_json, read_table
from infra.storage.check import SHARD_FILE, StoreProblem, check_shard
from infra.storage.files import sizes_in
from infra.storage.lock import holder
from infra.storage.manifest_check import (
    RowSums,
    chosen_rows,
    compared,
    manifest_problems,
    read_sums,
)
from infra.storage.refs import read_rows
from infra.storage.runs import RunStore
from infra.storage.versions import versions

THREADS: Final = 4
OnBytes = Callable[[int, int], None]
"""Called with the bytes of tars that are checked, and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        problems: in the order of reading.
        shards: that are there, real and synthetic.
        images: rows of the manifest.
        num_bytes: of all tars.
        at_work: who is writing here at the moment; empty where nobody is.
        finished: whether the run has come to its end.
    """

    problems: list[StoreProblem]
    shards: int
    images: int
    num_bytes: int
    at_work: str
    finished: bool


@dataclass(slots=True, eq=False)
class _Folder:
    """Shards of a folder: their files, their rows, and which of them are whole."""

    place: Place
    sizes: dict[str, int]
    sums: RowSums = field(default_factory=RowSums)
    whole: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        matches = (SHARD_FILE.fullmatch(file) for file in self.sizes)
        return sorted({match["name"] for match in matches if match})


def verify(store: RunStore, on_bytes: OnBytes = lambda done, total: None) -> Verification:
    """Checks shards, manifests, sources, levels, scores and leftovers of an output.

    Raises:
        OutputError: there is no run.
        StoreError: an object store does not answer.
    """
    if not file_exists(store.config):
        raise OutputError(f"{store.root}: not the output of a run, it has no {store.config.name}")
    at_work = holder(store.root)
    folders = [_Folder(at, sizes_in(at)) for at in (store.real, store.generated)]
    total = sum(n for at in folders for name, n in at.sizes.items() if name.endswith(".tar"))
    problems: list[StoreProblem] = []
    done = 0
    for folder in folders:
        for name, found in _checked(folder):
            # beside a run at work a tar without rows is one whose rows are on their way
            problems += [p for p in found if not (at_work and p.code == "missing_rows")]
            done += folder.sizes.get(f"{name}.tar", 0)
            on_bytes(done, total)
    images = 0
    grown = bool(versions(store))  # top-ups leave rows out that others have replaced
    for path, folder in _manifests(store, folders):
        subset = grown and path != store.real_manifest
        found, manifest = _check_manifest(path, folder, subset=subset)
        problems += found
        images = len(manifest.keys)
        if not at_work and path in (store.manifest, store.real_manifest):
            problems += _check_info(folder, manifest)
    if file_exists(store.real_manifest) and file_exists(store.manifest):
        problems += _sources(store)
    problems += _tables(store)
    problems += _leftovers(store)
    return Verification(
        problems=problems,
        shards=sum(len(folder.names()) for folder in folders),
        images=images,
        num_bytes=total,
        at_work=at_work,
        finished=file_exists(store.result),
    )


def _checked(folder: _Folder) -> Iterator[tuple[str, list[StoreProblem]]]:
    """Every shard, several at a time, with its problems; its rows are summed up."""

    def check(name: str) -> tuple[list[StoreProblem], RowSums]:
        found, sums = check_shard(folder.place, name, folder.sizes, verify=True), RowSums()
        if not found:
            sums.add(read_rows(folder.place, name))
        return found, sums

    threads = ThreadPoolExecutor(THREADS if is_remote(folder.place) else 2)
    try:
        names = folder.names()
        for name, (found, sums) in zip(names, threads.map(check, names), strict=True):
            if not found:
                folder.whole.append(name)
                folder.sums.num_rows |= sums.num_rows
                folder.sums.totals |= sums.totals
                folder.sums.rows.extend(sums.rows)
            yield name, found
    finally:
        threads.shutdown(cancel_futures=True)


def _manifests(store: RunStore, folders: Sequence[_Folder]) -> Iterator[tuple[Place, _Folder]]:
    """The manifests that are there, with the folder of their shards; the newest one last."""
    real, generated = folders
    if file_exists(store.real_manifest):
        yield store.real_manifest, real
    for path in versions(store).values():
        yield path, generated
    if file_exists(store.manifest):
        yield store.manifest, generated


def _check_manifest(
    path: Place, folder: _Folder, *, subset: bool
) -> tuple[list[StoreProblem], RowSums]:
    """Problems of a manifest, and its rows."""
    try:
        manifest = read_sums(path)
    except DataError as error:
        return [StoreProblem(path=path, code="damaged_rows", detail=str(error))], RowSums()
    gone = sorted(manifest.num_rows.keys() - set(folder.names()))
    problems = [
        StoreProblem(path=path, code="missing_rows", detail=f"shard {name} is not there")
        for name in gone
    ]
    problems += manifest_problems(path, manifest)
    if subset:
        whole = manifest.num_rows.keys() <= set(folder.whole)
        return problems + (chosen_rows(path, manifest, folder.sums) if whole else []), manifest
    listed = [name for name in folder.whole if name in manifest.num_rows]
    problems += compared(path, manifest, folder.sums, listed)
    return problems, manifest


def _sources(store: RunStore) -> list[StoreProblem]:
    """Images whose source is not one to train on: the classifier would be tested on what it saw."""
    sources: set[str] = set()
    try:
        real = read_table(store.real_manifest, ["key", "split"])
        with parquet_file(store.manifest) as file:
            for batch in file.iter_batches(columns=["source_key"]):
                sources.update(pc.unique(batch.column("source_key")).to_pylist())
    except DataError:
        return []  # said already
    others = sources.difference(real.filter(pc.equal(real["split"], "train"))["key"].to_pylist())
    if not others:
        return []
    detail = f"{len(others)} sources are no training images, e.g. {min(others)}"
    return [StoreProblem(path=store.manifest, code="other_split", detail=detail)]


def _check_info(folder: _Folder, manifest: RowSums) -> list[StoreProblem]:
    """Whether what readers of the shards go by lists those of the manifest."""
    path = folder.place / "_info.json"
    wanted = {f"{name}.tar" for name in manifest.num_rows} & folder.sizes.keys()
    try:
        info: dict[str, Any] = read_json(path)
        listed = {name for split in info["splits"].values() for name in split["filenames"]}
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [StoreProblem(path=path, code="damaged_file", detail=f"unreadable: {error!r}")]
    if listed & folder.sizes.keys() == wanted:
        return []
    detail = "it does not list the shards of the manifest"
    return [StoreProblem(path=path, code="damaged_file", detail=detail)]


def _tables(store: RunStore) -> list[StoreProblem]:
    """Other files that are read again: whether they can be."""
    problems = []
    for folder in (store.levels, store.scores):
        for name in sizes_in(folder):
            if name.endswith(".parquet"):
                try:
                    read_table(folder / name)
                except DataError as error:
                    problem = StoreProblem(
                        path=folder / name, code="damaged_rows", detail=str(error)
                    )
                    problems.append(problem)
    for path in (store.result, store.facts, store.stages):
        if file_exists(path):
            try:
                read_json(path)
            except StoreError:
                raise
            except (OSError, ValueError) as error:
                problems.append(StoreProblem(path=path, code="damaged_file", detail=str(error)))
    if file_exists(store.result) and not file_exists(store.manifest):
        detail = "the run is finished, but its manifest is gone"
        problems.append(StoreProblem(path=store.manifest, code="missing_file", detail=detail))
    return problems


def _leftovers(store: RunStore) -> list[StoreProblem]:
    """Temporary files whose writer is dead, on a disk; object stores have none."""
    if not isinstance(store.root, Path):
        return []
    folders = [store.root, *store.root.glob("*"), *store.root.glob("*/*")]
    detail = "left by a writer that was killed; the next run here removes it"
    return [
        StoreProblem(path=path, code="temporary_file", detail=detail)
        for folder in folders
        if folder.is_dir() and "prefect" not in folder.relative_to(store.root).parts
        for path in abandoned_files(folder)
    ]
