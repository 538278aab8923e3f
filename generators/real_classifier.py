"""The run's own classifier of real images, in memory, as judges look through it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from generators.classifier_file import ClassifierInfo, load_classifier, load_statistics
from generators.classifiers import embed
from generators.errors import ConfigError
from generators.filters.base import JudgeContext, as_images


@dataclass(frozen=True, slots=True, kw_only=True)
class RealClassifier:
    """A loaded classifier.

    Attributes:
        network: on its device; `forward_features` and `forward_head(x, pre_logits)` as timm's.
        info: of it.
        path: of its file.
        device: where the network is.
    """

    network: Any
    info: ClassifierInfo
    path: Path
    device: str

    def prepare(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to the network's inputs."""
        images = as_images(pixels, self.info.channels)
        if images.shape[2:] != self.info.image_size:
            images = functional.interpolate(
                images, self.info.image_size, mode="bilinear", antialias=True
            )
        return self.info.normalization.apply(images)

    @torch.inference_mode()
    def evaluate(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) and logits (N, num_classes), float32 on the CPU."""
        embeddings, logits = embed(self.network, self.prepare(pixels.to(self.device)))
        return embeddings.float().cpu(), logits.float().cpu()

    def statistics(self) -> dict[str, Tensor]:
        """What it makes of real images, see `statistics_of`.

        Raises:
            CheckpointError: none were stored with it.
        """
        return load_statistics(self.path)


def open_classifier(context: JudgeContext, judge: str) -> RealClassifier:
    """The classifier of the run.

    Raises:
        ConfigError: the run has none, or it was trained on other classes; names the judge.
        CheckpointError: its file is missing or damaged.
    """
    if context.classifier is None:
        allowed = "a run that trains its real-data classifier before it filters"
        raise ConfigError("filter.name", judge, allowed)
    network, info = load_classifier(context.classifier)
    if info.class_names != context.class_names:
        allowed = f"a classifier of the data set's classes {list(context.class_names)}"
        raise ConfigError("filter.classifier", list(info.class_names), allowed)
    return RealClassifier(
        network=network.to(context.device).requires_grad_(False),
        info=info,
        path=context.classifier,
        device=context.device,
    )
