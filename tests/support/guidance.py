"""What the tests of guidance methods share: the laws each one states of itself, and targets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.classifier_file import ClassifierInfo, save_classifier
from generators.classifiers import create_classifier
from generators.guidance.base import Target
from generators.models import Models
from generators.registry import MethodSpec
from generators.steering.guide import Guide

Params = dict[str, Any]
NONE = MethodSpec(name="none")


@dataclass(frozen=True, kw_only=True)
class Laws:
    """What `tests/contracts/test_guidance_laws.py` needs to know of a method.

    A module `tests/generators/guidance/test_<method>.py` has one, called `LAWS`.

    Attributes:
        grid: parameter sets that are mixed in one batch; files they name go into the folder.
        off: parameters at which it does nothing; None where there are none.
        off_equals: what it is then, bit for bit.
        backbones: fixtures that it works on.
    """

    grid: Callable[[Backbone, Path], list[Params]]
    off: Callable[[Backbone, Path], Params] | None
    off_equals: MethodSpec = NONE
    backbones: tuple[str, ...] = ("mixture", "tiny_unet")


def given(*grid: Params) -> Callable[[Backbone, Path], list[Params]]:
    """Parameter sets that depend on nothing."""
    return lambda backbone, folder: list(grid)


def target_of(
    backbone: Backbone, label: int = 1, source: Any = None, models: Models | None = None
) -> Target:
    """A target of a class of the backbone."""
    models = models or Models(backbone)
    return Target(
        cond=models.condition(models.class_names[label]),
        uncond=models.unconditional(),
        label=label,
        source=source,
        models=models,
    )


def classifier_for(backbone: Backbone, folder: Path, seed: int = 1) -> str:
    """A file with a small random network that knows the backbone's classes."""
    path = folder / f"classifier-{seed}.safetensors"
    names, channels = backbone.class_names or (), backbone.pixel_shape[0]
    network = create_classifier("small_cnn", len(names), channels, seed=seed)
    info = ClassifierInfo(
        model="small_cnn", class_names=names, channels=channels, image_size=(8, 8)
    )
    save_classifier(path, network, info)
    return str(path)


class MixtureLogits(nn.Module):
    """log prior + log likelihood of clean points, all components as wide as `variance`."""

    num_features = 2

    def __init__(self, mixture: GaussianMixture, variance: float) -> None:
        super().__init__()
        self.mixture, self.variance = mixture, variance

    def forward_features(self, x: Tensor) -> Tensor:
        """The points themselves."""
        return x.flatten(1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_classes)."""
        if pre_logits:
            return x
        squared = (x.double()[:, None] - self.mixture._means).square().sum(2)
        owner = self.mixture._owner
        logits = []
        for label, prior in enumerate(self.mixture._prior):
            mine = -squared[:, owner == label] / (2 * self.variance)
            count = (owner == label).double().sum()
            logits.append(mine.logsumexp(1) - count.log() + prior.log())
        return torch.stack(logits, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_classes)."""
        return self.forward_head(self.forward_features(x))


def with_exact_classifier(mixture: GaussianMixture, variance: float = 0.15) -> Models:
    """Models in which the classifier `exact` is the mixture's own, blurred."""
    models = Models(mixture)
    info = ClassifierInfo(
        model="exact", class_names=mixture.class_names or (), channels=1, image_size=(1, 2)
    )
    models.keep(
        ("guide", "exact"),
        lambda: Guide(network=MixtureLogits(mixture, variance), info=info, backbone=mixture),
    )
    return models
