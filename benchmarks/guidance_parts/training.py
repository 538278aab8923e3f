"""Small classifiers for the benchmark: the judge, the guide, and the few-shot learner."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from generators.classifier_file import ClassifierInfo, save_classifier
from generators.classifiers import create_classifier


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        pixels: (N, C, H, W) in [-1, 1].
        labels: (N,).
    """

    pixels: Tensor
    labels: Tensor

    def rows(self, index: Tensor) -> "Images":
        """Some of them."""
        return Images(pixels=self.pixels[index], labels=self.labels[index])


def train(images: Images, num_classes: int, updates: int, seed: int, model: str) -> nn.Module:
    """AdamW with a cosine to 0, batches of 64, shifts by up to an eighth of the side."""
    network = create_classifier(model, num_classes, images.pixels.shape[1], seed=seed)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    network.train()
    for _ in range(updates):
        rows = torch.randint(len(images.labels), (64,), generator=draw)
        logits = network(shifted(images.pixels[rows], draw))
        loss = functional.cross_entropy(logits, images.labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
    return network.eval()


def shifted(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Each image moved by its own few pixels; the edge is repeated."""
    side = pixels.shape[2]
    most = max(1, side // 8)
    padded = functional.pad(pixels, (most,) * 4, mode="replicate")
    places = torch.randint(2 * most + 1, (2, len(pixels)), generator=draw).tolist()
    rows = zip(padded, *places, strict=True)
    return torch.stack([image[:, y : y + side, x : x + side] for image, y, x in rows])


@torch.inference_mode()
def accuracy(network: nn.Module, images: Images) -> float:
    """Percent."""
    parts = images.pixels.split(500)
    found = torch.cat([network(part).argmax(1) for part in parts])
    return 100 * float((found == images.labels).double().mean())


@torch.inference_mode()
def look(network: nn.Module, pixels: Tensor) -> tuple[NDArray[np.float64], Tensor]:
    """Features (N, D) before the last layer, and the classes it sees (N,)."""
    features, seen = [], []
    for part in pixels.split(500):
        hidden = network.forward_features(part)  # type: ignore[operator]
        features.append(network.forward_head(hidden, pre_logits=True))  # type: ignore[operator]
        seen.append(network.forward_head(hidden).argmax(1))  # type: ignore[operator]
    return torch.cat(features).double().numpy(), torch.cat(seen)


def save(path: Path, network: nn.Module, names: tuple[str, ...], images: Images, model: str) -> str:
    """A file that guidance can open."""
    _, channels, height, width = images.pixels.shape
    info = ClassifierInfo(
        model=model, class_names=names, channels=channels, image_size=(height, width)
    )
    save_classifier(path, network, info)
    return str(path)
