"""Where a run keeps what: one folder, and whose config it belongs to. Holds paths, no data."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from generators.errors import OutputError
from generators.registry import JsonValue, content_hash
from infra.storage.atomic import read_json, remove_temporary, write_bytes


@dataclass(frozen=True, slots=True)
class RunStore:
    """The folder of a run. Everything below is written atomically and found by content.

    Attributes:
        root: the output folder.
    """

    root: Path

    @property
    def real(self) -> Path:
        """Shards of the ingested real images."""
        return self.root / "real"

    @property
    def generated(self) -> Path:
        """Shards of the synthetic images."""
        return self.root / "shards"

    @property
    def levels(self) -> Path:
        """Rows of the complete levels as judged, one Parquet file a level: what trainings read."""
        return self.root / "levels"

    @property
    def scores(self) -> Path:
        """Judges' scores, one Parquet file a shard and judge."""
        return self.root / "scores"

    @property
    def training(self) -> Path:
        """One folder a trained classifier."""
        return self.root / "training"

    @property
    def generators(self) -> Path:
        """Generators fitted in the run."""
        return self.root / "generators"

    @property
    def manifest(self) -> Path:
        """The manifest of the synthetic images."""
        return self.root / "manifest.parquet"

    @property
    def real_manifest(self) -> Path:
        """The manifest of the real images."""
        return self.root / "real.parquet"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.root / "report"

    @property
    def result(self) -> Path:
        """The numbers; written last, so a run with it is finished."""
        return self.root / "result.json"

    @property
    def stages(self) -> Path:
        """Seconds by stage, across restarts."""
        return self.root / "stages.json"

    @property
    def facts(self) -> Path:
        """What the report needs beside config and manifests."""
        return self.root / "facts.json"

    @property
    def config(self) -> Path:
        """The config this folder belongs to."""
        return self.root / "config.yaml"

    def finished(self, identity: Mapping[str, JsonValue]) -> dict[str, JsonValue] | None:
        """The result, if this very config has run to its end here."""
        if not self.result.is_file():
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
        if self.root.is_dir():
            remove_temporary(self.root)
        if self.config.is_file():
            differing = _differences(yaml.safe_load(self.config.read_text()), dict(identity))
            if differing and not update:
                listed = "\n  ".join(differing[:10])
                raise OutputError(
                    f"{self.root} belongs to another config; it differs in\n  {listed}\n"
                    "choose another --output, or give --update to change this run and reuse "
                    "what both share"
                )
        elif self.root.is_dir() and any(self.root.iterdir()):
            raise OutputError(f"{self.root} is not empty and not a run; choose another --output")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(dict(identity), sort_keys=False)
            write_bytes(self.config, text.encode())
        except OSError as error:
            raise OutputError(f"cannot write to {self.root}: {error.strerror}") from error

    def require_space(self, num_bytes: int) -> None:
        """Checks the disk before any work.

        Args:
            num_bytes: of all shards; those that are there already are taken off.

        Raises:
            OutputError: fewer bytes are free than the run is going to write.
        """
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            raise OutputError(f"cannot write to {folder}: no permission")
        there = sum(path.stat().st_size for at in (self.real, self.generated) for path in _tars(at))
        missing, free = num_bytes - there, shutil.disk_usage(folder).free
        if missing > free:
            raise OutputError(
                f"{folder}: about {missing / 1e9:,.2f} GB will be written, "
                f"{free / 1e9:,.2f} GB are free"
            )


def lending_stores(folders: Iterable[Path]) -> list[RunStore]:
    """Runs whose images may be copied.

    Raises:
        OutputError: a folder is not one of a run.
    """
    stores = [RunStore(folder.resolve()) for folder in folders]
    for store in stores:
        if not store.config.is_file():
            raise OutputError(f"--reuse {store.root}: not the folder of a run, it has no config")
    return stores


def _tars(folder: Path) -> list[Path]:
    return list(folder.glob("*.tar"))


def _differences(old: object, new: object, at: str = "") -> list[str]:
    """Dotted paths whose values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            below = f"{at}.{key}" if at else str(key)
            found += _differences(old.get(key), new.get(key), below)
        return found
    return [] if old == new else [f"{at}: {old!r} there, {new!r} now"]
