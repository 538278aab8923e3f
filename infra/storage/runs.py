"""Where a run keeps what: one folder, and whose config it belongs to. Holds paths, no data."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import yaml

from generators.errors import OutputError
from generators.listings import files_below
from generators.local_copies import cache_folder
from generators.places import Place, StoreError, file_exists, folder_exists, place
from generators.registry import JsonValue, content_hash
from infra.storage.atomic import read_json, remove_temporary, write_bytes
from infra.storage.files import make_folder, read_bytes, sizes_in
from infra.storage.lock import LOCK_FILE, locked


@dataclass(frozen=True, slots=True)
class RunStore:
    """The folder of a run. Everything below is written atomically and found by content.

    Attributes:
        root: the output: a folder, or a URL of an object store.
    """

    root: Place

    @property
    def real(self) -> Place:
        """Shards of the ingested real images."""
        return self.root / "real"

    @property
    def generated(self) -> Place:
        """Shards of the synthetic images."""
        return self.root / "shards"

    @property
    def levels(self) -> Place:
        """Rows of the complete levels as judged, one Parquet file a level: what trainings read."""
        return self.root / "levels"

    @property
    def scores(self) -> Place:
        """Judges' scores, one Parquet file a shard and judge."""
        return self.root / "scores"

    @property
    def quarantine(self) -> Place:
        """A record each of the shards that were given up."""
        return self.root / "quarantine"

    @property
    def training(self) -> Place:
        """One folder a trained classifier."""
        return self.root / "training"

    @property
    def generators(self) -> Place:
        """Generators fitted in the run."""
        return self.root / "generators"

    @property
    def manifest(self) -> Place:
        """The manifest of the synthetic images."""
        return self.root / "manifest.parquet"

    @property
    def real_manifest(self) -> Place:
        """The manifest of the real images."""
        return self.root / "real.parquet"

    @property
    def report(self) -> Place:
        """The folder of the report."""
        return self.root / "report"

    @property
    def study(self) -> Place:
        """The folder of a study's tables."""
        return self.root / "study"

    @property
    def result(self) -> Place:
        """The numbers; written last, so a run with it is finished."""
        return self.root / "result.json"

    @property
    def stages(self) -> Place:
        """Seconds by stage, across restarts."""
        return self.root / "stages.json"

    @property
    def facts(self) -> Place:
        """What the report needs beside config and manifests."""
        return self.root / "facts.json"

    @property
    def config(self) -> Place:
        """The config this folder belongs to."""
        return self.root / "config.yaml"

    @property
    def local(self) -> Path:
        """A folder of this machine for what is of no use to others: the output itself on a disk."""
        if isinstance(self.root, Path):
            return self.root
        return cache_folder() / "runs" / hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    def lock(self) -> AbstractContextManager[None]:
        """Held by the driver of a run, for the time it works here; see `infra.storage.lock`.

        Raises:
            OutputError: another run is at work here; says where.
            StoreError: the object store does not answer.
        """
        return locked(self.root)

    def finished(self, identity: Mapping[str, JsonValue]) -> dict[str, JsonValue] | None:
        """The result, if this very config has run to its end here."""
        if not file_exists(self.result):
            return None
        result: dict[str, JsonValue] = read_json(self.result)
        return result if result.get("config_hash") == content_hash(dict(identity)) else None

    def claim(self, identity: Mapping[str, JsonValue], *, update: bool) -> None:
        """Makes the folder this config's.

        Args:
            identity: everything results depend on, as plain data.
            update: accept a folder of another config; what both share is reused.

        Raises:
            OutputError: the folder belongs to another config, holds other files, or cannot be
                written.
        """
        self.check(identity, update=update)
        remove_temporary(self.root)
        try:
            make_folder(self.root)
            text = yaml.safe_dump(dict(identity), sort_keys=False)
            write_bytes(self.config, text.encode())
        except OSError as error:
            raise OutputError(f"cannot write to {self.root}: {error.strerror or error}") from error

    def check(self, identity: Mapping[str, JsonValue], *, update: bool) -> None:
        """Refuses what `claim` would, as far as reading tells; writes nothing.

        Args:
            identity: everything results depend on, as plain data.
            update: accept a folder of another config; what both share is reused.

        Raises:
            OutputError: the folder belongs to another config, or holds other files.
        """
        if file_exists(self.config):
            differing = _differences(self.stored_config(), dict(identity))
            if differing and not update:
                listed = "\n  ".join(differing[:10])
                raise OutputError(
                    f"{self.root} belongs to another config; it differs in\n  {listed}\n"
                    "choose another --output, or give --update to change this run and reuse "
                    "what both share"
                )
        elif _holds_files(self.root):
            raise OutputError(f"{self.root} is not empty and not a run; choose another --output")

    def stored_config(self) -> JsonValue:
        """The config this folder belongs to, as plain data.

        Raises:
            OutputError: it is no YAML, or has more in it than plain data.
        """
        try:
            return yaml.safe_load(read_bytes(self.config))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise OutputError(f"{self.config} is not the config of a run: {error}") from error

    def require_space(self, num_bytes: int) -> None:
        """Checks the disk before any work.

        Args:
            num_bytes: of all shards; those that are there already are taken off.

        Raises:
            OutputError: fewer bytes are free than the run is going to write.
        """
        if not isinstance(self.root, Path):
            return  # object stores do not end
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            raise OutputError(f"cannot write to {folder}: no permission")
        shards = {**sizes_in(self.real), **sizes_in(self.generated)}
        there = sum(size for name, size in shards.items() if name.endswith(".tar"))
        missing, free = num_bytes - there, shutil.disk_usage(folder).free
        if missing > free:
            raise OutputError(
                f"{folder}: about {missing / 1e9:,.2f} GB will be written, "
                f"{free / 1e9:,.2f} GB are free"
            )


def run_store(output: str, at: str = "output") -> RunStore:
    """The run at a path or URL; `at` is the option to name in errors.

    Raises:
        ConfigError: a URL that is not allowed.
    """
    where = place(output, at)
    return RunStore(where.resolve() if isinstance(where, Path) else where)


def lending_stores(outputs: Iterable[str]) -> list[RunStore]:
    """Runs whose images may be copied, by path or URL.

    Raises:
        OutputError: an output is not one of a run.
    """
    stores = [run_store(output, "--reuse") for output in outputs]
    for store in stores:
        try:
            there = file_exists(store.config)
        except StoreError as error:
            raise OutputError(f"--reuse {store.root}: {error}") from error
        if not there:
            raise OutputError(f"--reuse {store.root}: not the folder of a run, it has no config")
    return stores


def _holds_files(root: Place) -> bool:
    """Whether there is anything that no run has made."""
    if not isinstance(root, Path):
        return folder_exists(root) and bool(files_below(root).keys() - {LOCK_FILE})
    return root.is_dir() and any(path.name != LOCK_FILE for path in root.iterdir())


def _differences(old: object, new: object, at: str = "") -> list[str]:
    """Dotted paths whose values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            below = f"{at}.{key}" if at else str(key)
            found += _differences(old.get(key), new.get(key), below)
        return found
    return [] if old == new else [f"{at}: {old!r} there, {new!r} now"]
