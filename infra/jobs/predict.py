"""Classifies images that no run has seen, with a classifier that a run has trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from curriculum.data.decode import decode, resize
from curriculum.evaluate import EvaluateSpec, predict_images
from curriculum.sources.folder import image_files
from curriculum.sources.parquet import image_bytes
from generators.classifier_file import ClassifierInfo, load_classifier
from generators.errors import CheckpointError, DataError, SampleRejected
from generators.local_copies import local_copy
from generators.places import Place, file_exists, folder_exists, place, read_image
from infra.storage.atomic import parquet_file

BATCH_SIZE = 256
WEIGHTS = "classifier.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the classifier says of one image.

    Attributes:
        image: its path, or file and row.
        label: its class as stated by its folder or its column; empty where nothing states one.
        predicted: class; empty for an image that cannot be read.
        probability: of that class.
        reason: why it cannot be read.
    """

    image: str
    label: str
    predicted: str = ""
    probability: float | None = None
    reason: str = ""


def predict(checkpoint: str, images: Sequence[str], device: str) -> Iterator[Prediction]:
    """Predictions of all images, batch by batch; those that cannot be read come as they are found.

    Args:
        checkpoint: `classifier.safetensors`, or a folder of `training/` that holds it.
        images: image files, folders of them, or Parquet files with a column `image`.
        device: where the network runs.

    Raises:
        CheckpointError: no readable classifier.
        DataError: no such image, or none in a folder.
    """
    where = place(checkpoint, "CHECKPOINT")
    where = where / WEIGHTS if folder_exists(where) else where
    if not file_exists(where):
        raise CheckpointError(f"no classifier at {where}; a run's are in `training/`")
    network, info = load_classifier(local_copy(where))
    spec = EvaluateSpec(normalization=info.normalization, image_size=info.image_size, device=device)
    network.to(device)
    found = [place(text, "IMAGES") for text in images]
    batch: list[tuple[str, str, torch.Tensor]] = []
    for name, label, data in chain.from_iterable(map(_images, found)):
        stated = _name_of(label, info.class_names)
        try:
            batch.append((name, stated, _pixels(data(), info)))
        except SampleRejected as error:
            yield Prediction(image=name, label=stated, reason=error.reason)
        if len(batch) == BATCH_SIZE:
            yield from _classified(network, batch, spec, info)
            batch = []
    if batch:
        yield from _classified(network, batch, spec, info)


def _classified(
    network: Any, batch: list[tuple[str, str, torch.Tensor]], spec: EvaluateSpec, info: Any
) -> Iterator[Prediction]:
    pixels = torch.stack([image for _, _, image in batch])
    for (name, label, _), row in zip(batch, predict_images(network, pixels, spec), strict=True):
        best = int(row.argmax())
        yield Prediction(
            image=name,
            label=label,
            predicted=info.class_names[best],
            probability=float(row[best]),
        )


def _pixels(data: bytes, info: ClassifierInfo) -> torch.Tensor:
    """(C, S, S) uint8, as the run has stored its own images."""
    side = int(info.details.get("stored_size", info.image_size[0]))
    channels: Any = info.channels
    pixels = resize(decode(data, channels), side)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _images(where: Place) -> Iterator[tuple[str, Any, Any]]:
    """Name, label as stated, and what reads the bytes, of each image."""
    if where.suffix == ".parquet":
        yield from _rows(where)
    elif folder_exists(where):
        for name in sorted(image_files(where)):
            path = where / name
            yield str(path), path.parent.name, lambda path=path: read_image(path)
    elif file_exists(where):
        yield str(where), where.parent.name, lambda: read_image(where)
    else:
        raise DataError(f"{where}: no such image, folder or Parquet file")


def _rows(path: Place) -> Iterator[tuple[str, Any, Any]]:
    with parquet_file(path) as reader:
        names = reader.schema_arrow.names
        if "image" not in names:
            raise DataError(f"{path}: no column 'image'; it has {', '.join(names)}")
        columns = [name for name in ("image", "label") if name in names]
        row = 0
        for batch in reader.iter_batches(BATCH_SIZE, columns=columns):
            for cells in batch.to_pylist():
                value = cells["image"]
                yield (
                    f"{path}#{row}",
                    cells.get("label"),
                    lambda value=value: image_bytes(value, path.parent),
                )
                row += 1


def _name_of(label: Any, class_names: Sequence[str]) -> str:
    """The class that a label states: a name, or a number; empty for what is none."""
    if isinstance(label, int) and 0 <= label < len(class_names):
        return class_names[label]
    return label if label in class_names else ""
