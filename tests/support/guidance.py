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
from generators.guidance_fits.base import GuidanceFit, Materials
from generators.models import Models
from generators.noise import NoiseLevel
from generators.registry import MethodSpec, build, content_hash
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


def materials_for(backbone: Backbone, models: Models | None = None, **settings: Any) -> Materials:
    """Points of the mixture, or smooth random images, with what the laws' requests walk through."""
    models = models or Models(backbone, walks=walks_of_laws(backbone))
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(90) % len(models.class_names)
    samples = torch.rand(90, *backbone.sample_shape, generator=draw) * 2 - 1
    if isinstance(backbone, GaussianMixture):
        samples = mixture_points(backbone, labels, draw)
    given = {"num_inference_steps": 4, "batch_size": 64, "seed": 0, **settings}
    return Materials(models=models, samples=samples, labels=labels, **given)


def mixture_points(mixture: GaussianMixture, labels: Tensor, draw: torch.Generator) -> Tensor:
    """(N, 1, 1, 2): exact clean samples of classes."""
    rows = []
    for label in labels.tolist():
        means = mixture._means[mixture._owner == label]
        rows.append(means[int(torch.randint(len(means), (), generator=draw))])
    noise = torch.randn(len(labels), 2, generator=draw) * mixture._variance**0.5
    return (torch.stack(rows).float() + noise).view(-1, *mixture.sample_shape)


def walks_of_laws(backbone: Backbone) -> list[tuple[NoiseLevel, ...]]:
    """All that the requests of the guidance laws visit, each once."""
    steps, levels = (3, 4, 5, 6, 8, 10), (0, 30, 40, 60, 90)
    walks = [backbone.schedule.levels(n, level) for n in steps for level in levels]
    return list({tuple(one.timestep for one in walk): walk for walk in walks}.values())


def fitted(method: str, backbone: Backbone, folder: Path, **params: Any) -> str:
    """A file that a guidance fit left, after as few steps as can be."""
    path = folder / f"{method}-{content_hash(params, 8)}.safetensors"
    if not path.exists():
        fit: GuidanceFit = build("guidance_fit", MethodSpec(name=method, params=params))
        materials = materials_for(backbone)
        fit.check(materials)
        for _ in fit.fit(materials, path):
            pass
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
