"""What guidance is tried on: a generator, real images in parts that never meet, classifiers.

Digits: the embedded generator, fitted to MNIST brought to 8x8, and scikit-learn's digits, which it
never saw. MNIST at 32x32: a generator of `discl fit` (`guidance_parts/mnist32.yaml`) on the digits
0 to 6 of the training set; everything else is of the test set.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.guidance_parts.training import Images, accuracy, save, train
from generators.backbones.base import Backbone
from generators.backbones.pixel_unet import PixelUnet
from generators.registry import JsonValue
from generators.render import Renderer

JUDGE, GUIDE = "test_resnet", "small_cnn"
"""The judge never guides, is of another architecture, and saw other images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bed:
    """One setting.

    Attributes:
        name: for the table.
        renderer: of the generator.
        weak: backbone of its weaker version, for `auto`; none if there is none.
        pool: real images that few-shot sources are drawn from.
        test: real images that nothing was trained on.
        judge: classifier that measures.
        guide: file of the classifier that steers.
        folder: for fits.
        about: what the numbers rest on.
    """

    name: str
    renderer: Renderer
    weak: dict[str, JsonValue] | None
    pool: Images
    test: Images
    judge: nn.Module
    guide: str
    folder: Path
    about: dict[str, JsonValue]

    @property
    def backbone(self) -> Backbone:
        """The generator."""
        return self.renderer.backbone

    @property
    def num_classes(self) -> int:
        """Classes of the data."""
        return len(self.renderer.models.class_names)


def digits(folder: Path, updates: int) -> Bed:
    """8x8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    images = Images(pixels=pixels, labels=torch.tensor(found.target))
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    test, judged, guided = order[:600], order[600:1200], order[1200:]
    parts = tuple(images.rows(rows) for rows in (test, judged, guided))
    weak = fitted_weakly(folder, images.rows(judged))
    return make_bed("digits 8x8", PixelUnet(), weak, parts, folder, updates)


def mnist(folder: Path, generator: str, weak: str, data: Path, updates: int) -> Bed:
    """32x32."""
    with np.load(data) as arrays:
        known = arrays["y_test"] < 7
        images = as_images(arrays["x_test"][known], arrays["y_test"][known])
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    parts = (images.rows(order[:2400]), images.rows(order[2400:4800]), images.rows(order[4800:]))
    spec = PixelUnet(path=generator, dtype="bfloat16")
    bad: dict[str, JsonValue] = {"name": "pixel_unet", "path": weak, "dtype": "bfloat16"}
    return make_bed("MNIST 32x32", spec, bad, parts, folder, updates)


def as_images(pixels: np.ndarray, labels: np.ndarray) -> Images:  # type: ignore[type-arg]
    """(N, 28, 28) bytes with an edge of two pixels."""
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    values = torch.from_numpy(padded).float()[:, None] / 127.5 - 1
    return Images(pixels=values, labels=torch.from_numpy(labels).long())


def make_bed(
    name: str,
    spec: PixelUnet,
    weak: dict[str, JsonValue] | None,
    parts: tuple[Images, Images, Images],
    folder: Path,
    updates: int,
) -> Bed:
    """Trains judge and guide.

    Args:
        name: for the table.
        spec: of the generator.
        weak: of its weaker version.
        parts: test images; what the judge, and what the guide and the sources come from.
        folder: for files.
        updates: of each training.
    """
    test, judged, guided = parts
    backbone = spec.load("cpu")
    names = backbone.class_names or ()
    judge = train(judged, len(names), 2 * updates, 100, JUDGE)
    guide = train(guided, len(names), updates, 1, GUIDE)
    path = save(folder / f"guide-{len(test.labels)}.safetensors", guide, names, guided, GUIDE)
    about: dict[str, JsonValue] = {
        "judge_accuracy": round(accuracy(judge, test), 1),
        "guide_accuracy": round(accuracy(guide, test), 1),
        "judged": len(judged.labels),
        "guided": len(guided.labels),
        "test": len(test.labels),
        "knowledge": str(backbone.card.get("knowledge", "")),
    }
    return Bed(
        name=name,
        renderer=Renderer(backbone, names),
        weak=weak,
        pool=guided,
        test=test,
        judge=judge,
        guide=path,
        folder=folder,
        about=about,
    )


def fitted_weakly(folder: Path, images: Images) -> dict[str, JsonValue]:
    """A generator of the embedded one's architecture after a hundred updates on few images."""
    from generators.fit import Fit
    from generators.fit_spec import FitSpec

    path = folder / "weak-8"
    if not (path / "config.json").exists():
        pixels = ((images.pixels + 1) * 127.5).round().to(torch.uint8)
        fit = Fit(FitSpec(steps=100, ema_decay=0.9), pixels, images.labels, 10, "cpu")
        for _ in fit.run():
            pass
        fit.save(path, {"class_names": [str(digit) for digit in range(10)]})
    return {"name": "pixel_unet", "path": str(path)}


def few_shot(bed: Bed, per_class: int, replicate: int) -> Images:
    """As many real images of each class; others for each replicate."""
    draw = torch.Generator().manual_seed(1000 + replicate)
    order = torch.randperm(len(bed.pool.labels), generator=draw)
    labels: Tensor = bed.pool.labels[order]
    rows = [order[labels == label][:per_class] for label in range(bed.num_classes)]
    return bed.pool.rows(torch.cat(rows))
