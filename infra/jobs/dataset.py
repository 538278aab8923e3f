"""The ingested data set: what to ingest, and how the result is read back. Decodes nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curriculum.data.long_tail import class_counts, long_tail_subset
from curriculum.data.splits import shot_split, stratified_split
from curriculum.profiles.base import LongTailProfile
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import ConfigError, DataError
from generators.places import Place
from generators.registry import build
from infra.config.schema import DataConfig, ShardsConfig
from infra.jobs.images import PixelFormat
from infra.jobs.ingest import IngestShard, chunks, listing_hash, source_key
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Which rows of a source a run uses, known before any image is read.

    Attributes:
        images: the opened source.
        split: split name to its rows of the source.
    """

    images: LabeledImages
    split: dict[str, NDArray[np.int64]]

    def train_counts(self) -> NDArray[np.int64]:
        """Training images per class (num_classes,)."""
        labels = self.images.labels[self.split["train"]]
        return class_counts(labels, len(self.images.class_names))


def select(config: DataConfig) -> Selection:
    """Opens the source, splits it and makes it long-tailed, as configured.

    A source with official train and val splits, but no test split, is tested on val.

    Raises:
        DataError: anything about the source that would fail later.
    """
    spec: SourceSpec = build("source", config.source, "data.source")
    try:
        images = spec.open()
    except DataError as error:
        raise DataError(f"data.source: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"data.source.{error.field}", error.value, error.allowed) from error
    labels = images.labels
    if len(labels) == 0:
        raise DataError("data.source: no images found")
    assigned = images.splits
    if assigned is None:
        fractions: dict[Any, float] = {"test": config.test_percent / 100}
        if config.val_percent:
            fractions["val"] = config.val_percent / 100
        assigned = stratified_split(labels, fractions, config.seed, images.class_names)
    split = {name: np.flatnonzero(assigned == name) for name in SPLITS}
    if len(split["test"]) == 0:  # ImageNet's layout; nothing here is selected on validation data
        split["test"], split["val"] = split["val"], split["test"]
    for name in ("train", "test"):
        if len(split[name]) == 0:
            raise DataError(f"data.source: the {name} split has no images")
    if config.long_tail:
        profile: LongTailProfile = build(
            "profile", config.long_tail.profile, "data.long_tail.profile"
        )
        counts = profile.counts(len(images.class_names), config.long_tail.max_count)
        kept = long_tail_subset(labels[split["train"]], counts, config.seed)
        split["train"] = split["train"][np.sort(kept)]
    _check_classes(images, split)
    return Selection(images=images, split=split)


def _check_classes(images: LabeledImages, split: dict[str, NDArray[np.int64]]) -> None:
    """Every class of validation and test must be in train, and every class must have images."""
    present = {name: set(images.labels[rows].tolist()) for name, rows in split.items()}
    for name in ("val", "test"):
        for label in sorted(present[name] - present["train"]):
            raise DataError(
                f"class {images.class_names[label]!r} is in {name} but has no image in train"
            )
    for label, class_name in enumerate(images.class_names):
        if label not in present["train"]:
            raise DataError(f"class {class_name!r} has no training image")


def ingest_shards(
    data: DataConfig, shards: ShardsConfig, selection: Selection, store: RunStore
) -> list[IngestShard]:
    """The shards that hold the selected images."""
    return [
        IngestShard(
            source=data.source,
            split=name,
            indices=part,
            listing=listing_hash(selection.images, part),
            folder=store.real,
            form=pixel_format(data),
            extension=shards.extension(data.image_size),
            jpeg_quality=shards.jpeg_quality,
        )
        for name in SPLITS
        for part in chunks(selection.split[name].tolist(), shards.images_per_shard)
    ]


def pixel_format(data: DataConfig) -> PixelFormat:
    """Channels and side of the stored images."""
    return PixelFormat(channels=data.channels, image_size=data.image_size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """The real images of a run, as stored.

    Attributes:
        rows: the real manifest, rejected images included.
        class_names: by label.
        many_above: threshold of the `many` classes.
        few_below: threshold of the `few` classes.
    """

    rows: pa.Table
    class_names: tuple[str, ...]
    many_above: int
    few_below: int

    def split(self, name: str) -> pa.Table:
        """Readable images of a split."""
        chosen = pc.and_(pc.equal(self.rows["split"], name), pc.equal(self.rows["status"], "ok"))
        return self.rows.filter(chosen)

    def class_counts(self) -> NDArray[np.int64]:
        """Training images per class (num_classes,)."""
        labels = self.split("train").column("label").to_numpy()
        return class_counts(labels, len(self.class_names))

    def shots(self) -> NDArray[np.str_]:
        """`many`, `medium` or `few` per class."""
        return shot_split(self.class_counts(), self.many_above, self.few_below)

    def locations(self) -> dict[str, dict[str, Any]]:
        """Key to shard, its hash, offset and size of every training image."""
        columns = ["key", "shard", "shard_sha256", "offset", "size"]
        rows, hashes = self.split("train").select(columns).to_pylist(), dict[str, str]()
        for row in rows:  # one text a shard, however many rows: rows travel to workers
            row["shard_sha256"] = hashes.setdefault(row["shard"], row["shard_sha256"])
        return {row["key"]: {name: row[name] for name in columns[1:]} for row in rows}


def open_dataset(data: DataConfig, path: Place) -> Dataset:
    """The data set of a committed real manifest.

    Raises:
        DataError: no image of a class, or of the test split, could be read.
    """
    rows = read_manifest(path)
    names: dict[int, str] = dict(
        zip(rows.column("label").to_pylist(), rows.column("class_name").to_pylist(), strict=True)
    )
    dataset = Dataset(
        rows=rows,
        class_names=tuple(names[label] for label in sorted(names)),
        many_above=data.many_above,
        few_below=data.few_below,
    )
    for label in np.flatnonzero(dataset.class_counts() == 0):
        raise DataError(
            f"no training image of class {dataset.class_names[label]!r} can be read: "
            f"{_why(rows.filter(pc.equal(rows['label'], int(label))))}"
        )
    if dataset.split("test").num_rows == 0:
        raise DataError(f"no test image can be read: {_why(rows)}")
    return dataset


def _why(rows: pa.Table) -> str:
    """The first failure among rows of the real manifest."""
    failed = rows.filter(pc.equal(rows["status"], "failed")).slice(0, 1).to_pylist()
    return "; ".join(f"{row['origin']}: {row['reason']} ({row['detail']})" for row in failed)


def origin_keys(selection: Selection) -> list[str]:
    """Source keys of the training images, in order."""
    return [source_key(selection.images.origin(int(i))) for i in selection.split["train"]]
