"""Metrics of a trained classifier on a test set. Knows nothing of training.

All values are percents, 0..100, except the expected calibration error, 0..1. Accuracy of a split
(many, medium, few) is the mean of its classes' accuracies, as in the long-tail literature, so a
test set need not be balanced.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from curriculum.data.splits import shot_split
from curriculum.loader import EpochLoader, ImageTable
from curriculum.mixture import Indices
from generators.classifiers import Normalization, embed, to_inputs
from generators.errors import DataError
from generators.registry import JsonValue

NUM_CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    """How images go through a classifier.

    Attributes:
        normalization: of its inputs, the one it was trained with.
        image_size: (height, width) of its inputs; None takes images as they are stored.
        batch_size: images a forward pass.
        device: where it runs.
        num_loader_workers: reading processes; 0 reads in this process.
        few_below: classes with fewer training images are few-shot.
        many_above: classes with more are many-shot; all others are medium-shot.
    """

    normalization: Normalization = field(default_factory=Normalization)
    image_size: tuple[int, int] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 256
    device: str = "cpu"
    num_loader_workers: Annotated[int, Field(ge=0)] = 0
    few_below: Annotated[int, Field(ge=1)] = 20
    many_above: Annotated[int, Field(ge=1)] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a classifier reaches on a test set.

    Attributes:
        top1: share of images right, percent.
        balanced_accuracy: mean of the classes' accuracies, percent; classes without test images
            are left out, here and below.
        many: of the many-shot classes; None when there is none.
        medium: likewise.
        few: likewise.
        macro_f1: mean of the classes' F1 scores, percent.
        ece: expected calibration error of the top-1 probability, 15 equal bins, 0..1 (Guo et al.
            2017, arXiv:1706.04599, Eq. 3).
        per_class: accuracy of each class, percent; None without test images.
        num_images: in the test set.
    """

    top1: float
    balanced_accuracy: float
    many: float | None
    medium: float | None
    few: float | None
    macro_f1: float
    ece: float
    per_class: tuple[float | None, ...]
    num_images: int

    def scalars(self) -> dict[str, float | None]:
        """The metrics that are one number, by name."""
        return {
            "top1": self.top1,
            "balanced_accuracy": self.balanced_accuracy,
            "many": self.many,
            "medium": self.medium,
            "few": self.few,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
        }

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return {**asdict(self), "per_class": list(self.per_class)}

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "Metrics":
        """The inverse of `as_json`."""
        return cls(**{**data, "per_class": tuple(data["per_class"])})


def evaluate(
    model: nn.Module, table: ImageTable, class_counts: Tensor, spec: EvaluateSpec
) -> Metrics:
    """Metrics of a classifier on all rows of a table.

    Args:
        model: inputs (N, C, H, W) to logits (N, num_classes).
        table: the test images.
        class_counts: (num_classes,) real training images a class; they decide the splits.
        spec: how.

    Raises:
        DataError: no test image.
    """
    logits = predict_logits(model, table, spec)
    labels = torch.from_numpy(table.rows.labels)
    return metrics_of(logits, labels, class_counts, spec.few_below, spec.many_above)


def predict_logits(model: nn.Module, table: ImageTable, spec: EvaluateSpec) -> Tensor:
    """Logits (N, num_classes), float32 on the CPU, of all rows of a table in their order."""
    return _predict(
        model, table, spec, np.arange(len(table.rows)), lambda inputs: (model(inputs),)
    )[0]


def predict_features(
    model: Any, table: ImageTable, spec: EvaluateSpec, rows: Indices
) -> tuple[Tensor, Tensor]:
    """Embeddings (n, num_features) and logits (n, num_classes) of rows, float32 on the CPU."""
    embeddings, logits = _predict(model, table, spec, rows, partial(embed, model))
    return embeddings, logits


def _predict(
    model: nn.Module,
    table: ImageTable,
    spec: EvaluateSpec,
    rows: Indices,
    look: Callable[[Tensor], tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    device = torch.device(spec.device)
    loader = EpochLoader(
        table, spec.batch_size, num_workers=spec.num_loader_workers, drop_last=False
    )
    was_training = model.training
    model.to(device).eval()
    parts = []
    try:
        with torch.inference_mode():
            for images, *_ in loader.batches(rows):
                unit = images.to(device).float() / 255
                found = look(to_inputs(unit, spec.normalization, spec.image_size))
                parts.append([tensor.float().cpu() for tensor in found])
    finally:
        model.train(was_training)
    if not parts:
        raise DataError("there is no image to evaluate on")
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def predict_images(model: nn.Module, images: Tensor, spec: EvaluateSpec) -> Tensor:
    """Probabilities (N, num_classes), float32 on the CPU, of images (N, C, H, W) uint8."""
    was_training, device = model.training, torch.device(spec.device)
    model.eval()
    try:
        with torch.inference_mode():
            parts = [
                model(to_inputs(part.to(device).float() / 255, spec.normalization, spec.image_size))
                for part in torch.split(images, spec.batch_size)
            ]
    finally:
        model.train(was_training)
    return torch.cat(parts).float().softmax(1).cpu()


def metrics_of(
    logits: Tensor, labels: Tensor, class_counts: Tensor, few_below: int = 20, many_above: int = 100
) -> Metrics:
    """Metrics from logits (N, num_classes) and labels (N,); see `evaluate`."""
    from torchmetrics.functional.classification import (  # heavy: seconds
        multiclass_accuracy,
        multiclass_calibration_error,
        multiclass_f1_score,
    )

    num_classes = logits.shape[1]
    predicted = logits.argmax(1)
    present = torch.bincount(labels, minlength=num_classes) > 0
    recalls = multiclass_accuracy(predicted, labels, num_classes, average=None)
    f1_scores = multiclass_f1_score(predicted, labels, num_classes, average=None)
    ece = multiclass_calibration_error(
        logits.softmax(1), labels, num_classes, n_bins=NUM_CALIBRATION_BINS, norm="l1"
    )
    per_class = [
        100 * value if found else None
        for value, found in zip(recalls.double().tolist(), present.tolist(), strict=True)
    ]
    shots = shot_split(class_counts.cpu().numpy(), many_above=many_above, few_below=few_below)
    means = {
        split: _mean(value for value, shot in zip(per_class, shots, strict=True) if shot == split)
        for split in ("many", "medium", "few")
    }
    return Metrics(
        top1=100 * float((predicted == labels).double().mean()),
        balanced_accuracy=_mean(per_class) or 0.0,
        macro_f1=100 * float(f1_scores[present].double().mean()),
        ece=float(ece),
        per_class=tuple(per_class),
        num_images=len(labels),
        **means,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that exist, None when there is none."""
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None
