"""Data sets of the Hugging Face hub, or saved by the `datasets` library."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from curriculum.data.classes import label_table, read_class_names
from curriculum.data.files import split_column
from curriculum.data.splits import SPLIT_NAMES
from curriculum.sources.base import LabeledImages, SourceSpec
from curriculum.sources.parquet import image_bytes
from generators.errors import ConfigError, DataError, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Huggingface:
    """A data set of the Hugging Face hub or a local folder, through the `datasets` library.

    Needs `pip install 'diffusion-curriculum[datasets]'`. Splits called `train`, `validation`
    (`val`, `valid`, `dev`) and `test` are taken as they are, unless one of the three is named here:
    then only the named ones (and `train`) are.

    Attributes:
        dataset: `owner/name` on the hub, a folder of data files, or one of `save_to_disk`.
        config: configuration (subset) of the data set, where it has several.
        revision: commit, tag or branch on the hub; name one, so that a run can be repeated.
        train_split: its split to train on.
        val_split: its split to validate on.
        test_split: its split to test on.
        image_column: name of the column of images.
        label_column: name of the column of labels, integers or names.
        classes: class names by label: a list, or a text file with one a line; default: its own.
        cache_dir: where downloads are kept; default: the library's.
    """

    dataset: str
    config: str | None = None
    revision: str | None = None
    train_split: str | None = None
    val_split: str | None = None
    test_split: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    classes: str | tuple[str, ...] | None = None
    cache_dir: str | None = None

    def open(self) -> LabeledImages:
        """Downloads if needed, and reads the labels; decodes no image."""
        library = _library()
        parts = self._load(library)
        chosen = self._choose(parts)
        origins: list[tuple[str, int]] = []
        labels: list[Any] = []
        tables: dict[str, Any] = {}
        for name in chosen.values():
            part = parts[name]
            for column in (self.image_column, self.label_column):
                if column not in part.column_names:
                    known = one_of(part.column_names, column)
                    raise DataError(f"{self.dataset!r}: no column {column!r}; expected {known}")
            labels += part.select_columns([self.label_column]).with_format(None)[:][
                self.label_column
            ]
            origins += [(name, row) for row in range(len(part))]
            tables[name] = _undecoded(library, part, self.image_column)
        feature = parts[chosen["train"]].features[self.label_column]
        own = tuple(feature.names) if isinstance(feature, library.ClassLabel) else None
        folder = Path(self.dataset).expanduser()
        table = label_table(
            labels,
            read_class_names(self.classes) or own,
            split_column((split, len(parts[name])) for split, name in chosen.items()),
            lambda index: "{}#{}".format(*origins[index]),
        )
        return HuggingfaceImages(
            parts=tables,
            rows=tuple(origins),
            folder=folder if folder.is_dir() else Path(),
            image_column=self.image_column,
            class_names=table.class_names,
            labels=table.labels,
            splits=table.splits,
        )

    def _load(self, library: Any) -> dict[str, Any]:
        """Split name to table."""
        if "://" in self.dataset:
            allowed = "a hub name or a folder; sources parquet and webdataset read URLs"
            raise ConfigError("dataset", self.dataset.partition("://")[0] + "://...", allowed)
        folder = Path(self.dataset).expanduser()
        saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
        path = str(folder) if folder.is_dir() else self.dataset
        if folder.is_dir():
            _check_card(folder)
        try:
            if saved:
                loaded = library.load_from_disk(path)
            else:
                loaded = library.load_dataset(
                    path, self.config, revision=self.revision, cache_dir=self.cache_dir
                )
        except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
            # RuntimeError: data sets that are scripts, which the library no longer runs
            raise DataError(f"dataset: cannot load {self.dataset!r}: {error}") from error
        return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}

    def _choose(self, parts: dict[str, Any]) -> dict[str, str]:
        """`train`, `val`, `test` to the data set's name of it."""
        named = {"train": self.train_split, "val": self.val_split, "test": self.test_split}
        chosen = {split: name for split, name in named.items() if name is not None}
        if not chosen:
            for name in parts:
                split = SPLIT_NAMES.get(name.lower())
                if split in chosen:
                    raise DataError(
                        f"{self.dataset!r}: {chosen[split]!r} and {name!r} are both a {split} "
                        f"split; choose with `{split}_split`"
                    )
                if split:
                    chosen[split] = name
        chosen.setdefault("train", "train")
        for split, name in chosen.items():
            if name not in parts:
                known = one_of(parts, name)
                raise DataError(f"{split}_split: {self.dataset!r} has no split {name!r}; {known}")
        if len(set(chosen.values())) < len(chosen):
            raise DataError(f"{self.dataset!r}: one split for two purposes: {chosen}")
        return {split: chosen[split] for split in named if split in chosen}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HuggingfaceImages:
    """Rows of the tables of the `datasets` library.

    Attributes:
        parts: its name of a split to its table of undecoded images.
        rows: (split, row in it) by index.
        folder: what relative paths in cells start from.
        image_column: name of the column of images.
        class_names: by label.
        labels: (N,) class indices.
        splits: (N,) of `train`, `val`, `test`, or None.
    """

    parts: dict[str, Any]
    rows: tuple[tuple[str, int], ...]
    folder: Path
    image_column: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_] | None

    def origin(self, index: int) -> str:
        """`validation#12`: its own name of the split, and the row."""
        name, row = self.rows[index]
        return f"{name}#{row}"

    def read(self, index: int) -> bytes:
        """The encoded image of a cell."""
        name, row = self.rows[index]
        return image_bytes(self.parts[name][row][self.image_column], self.folder)


def _library() -> Any:
    """The `datasets` library, which is an optional dependency."""
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            "source 'huggingface' needs the `datasets` library: "
            "pip install 'diffusion-curriculum[datasets]'"
        ) from error


def _check_card(folder: Path) -> None:
    """Refuses a data set whose card names files elsewhere: the library would fetch any address.

    Raises:
        DataError: naming the card and the file.
    """
    from huggingface_hub.repocard import metadata_load

    for card in (folder / "README.md", folder / ".huggingface.yaml"):
        if not card.is_file():
            continue
        try:
            read = metadata_load if card.suffix == ".md" else _yaml_object
            configs = (read(card) or {}).get("configs")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"dataset: {str(card)!r} cannot be read: {error}") from error
        for text in _texts(configs):
            if text.startswith(("/", "~")) or ".." in text.split("/") or ":/" in text:
                raise DataError(f"dataset: {str(card)!r} names {text!r}, no file of the folder")


def _yaml_object(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _undecoded(library: Any, part: Any, column: str) -> Any:
    """The column of images alone, as encoded bytes."""
    images = part.select_columns([column]).with_format(None)
    if isinstance(images.features[column], library.Image):
        images = images.cast_column(column, library.Image(decode=False))
    return images


METHOD: Final[type[SourceSpec]] = Huggingface
