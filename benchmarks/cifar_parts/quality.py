"""How good the synthetic images are, by the features of the study's classifier of real images.

It was trained on the long tail alone and never saw an image that the generator was fitted to.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from curriculum.evaluate import EvaluateSpec, predict_features
from generators.classifier_file import load_classifier
from generators.errors import DataError
from infra.config import RunConfig
from infra.config.load import validate
from infra.jobs.dataset import Dataset, open_dataset
from infra.jobs.images import PixelFormat, StoredImages
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore

PER_CLASS = 200
"""Images of a class in every set: a distance depends on their number."""


def quality(output: Path) -> list[dict[str, Any]]:
    """Fréchet distance to the test images and the classifier's accuracy, hard classes alone.

    Rows are the levels, the validation images (what is possible), and the hard classes' training
    images, repeated (what oversampling shows).
    """
    store, dataset, form = finished(output)
    made = read_manifest(store.manifest)
    made = made.filter(pc.equal(made["status"], "ok"))
    hard = sorted(set(made["label"].to_pylist()))
    network, info = load_classifier(classifiers(output)["baseline", 0])
    spec = EvaluateSpec(normalization=info.normalization, device="cpu")

    def seen(split: str, level: int | None) -> tuple[NDArray[np.float64], float]:
        real = dataset.split(split)
        own = made.filter(pc.equal(made["image_guidance"], level)) if level is not None else None
        table = StoredImages(real, own, (store.real, store.generated), form, frozenset())
        usable = np.flatnonzero(table.rows.is_real == (level is None))
        labels = table.rows.labels
        rows = np.concatenate(
            [np.resize(usable[labels[usable] == label], PER_CLASS) for label in hard]
        )
        features, logits = predict_features(network, table, spec, rows)
        right = logits.argmax(1) == torch.from_numpy(labels[rows])
        return features.double().numpy(), 100 * float(right.double().mean())

    test, accuracy = seen("test", None)
    found: list[dict[str, Any]] = [{"images": "test", "frechet": 0.0, "accuracy": accuracy}]
    kinds: list[tuple[str, str, int | None]] = [("validation", "val", None)]
    kinds += [("training, repeated", "train", None)]
    kinds += [
        (f"{level} %", "test", level) for level in sorted(set(made["image_guidance"].to_pylist()))
    ]
    for name, split, level in kinds:
        features, accuracy = seen(split, level)
        found.append({"images": name, "frechet": frechet(test, features), "accuracy": accuracy})
    return found


def finished(output: Path) -> tuple[RunStore, Dataset, PixelFormat]:
    """The folder, the real images and the stored pixels of a finished study."""
    store = RunStore(output)
    data = validate(RunConfig, store.stored_config()).data
    form = PixelFormat(channels=data.channels, image_size=data.image_size)
    return store, open_dataset(data, store.real_manifest), form


def classifiers(output: Path) -> dict[tuple[str, int], Path]:
    """(arm, seed) to the file, of what the folder's config has; what it had before is left out.

    Raises:
        DataError: two of one arm and seed: it was trained anew after another change.
    """
    config = validate(RunConfig, RunStore(output).stored_config())
    found: dict[tuple[str, int], Path] = {}
    for path in sorted(output.glob("training/*/classifier.safetensors")):
        result = json.loads((path.parent / "result.json").read_text())
        arm, seed = result["arm"], result["seed"]
        if arm not in config.arms() or seed >= config.training.seeds:
            continue
        if (arm, seed) in found:
            raise DataError(f"{path.parent} and {found[arm, seed].parent}: which one is current?")
        found[arm, seed] = path
    return found


def frechet(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, D) (Heusel et al. 2017)."""
    (mean, covariance), (mean_2, covariance_2) = ((x.mean(0), np.cov(x.T)) for x in (one, other))
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariance @ covariance_2).real, 0))
    spread = np.trace(covariance) + np.trace(covariance_2) - 2 * roots.sum()
    return float(((mean - mean_2) ** 2).sum() + spread)
