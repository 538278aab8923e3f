"""A classifier as a differentiable function of samples, in pixel or latent space."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from generators.backbones.base import Backbone
from generators.checkpoint_places import local_checkpoint
from generators.classifier_file import ClassifierInfo, load_classifier
from generators.classifiers import (
    create_classifier,
    embed,
    pretrained_normalization,
    to_inputs,
    with_channels,
)
from generators.errors import CheckpointError, ConfigError, one_of
from generators.models import Models

OFF_THE_SHELF = "timm:"
"""Begins the name of a timm model with its pretrained ImageNet weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guide:
    """A loaded classifier. Equal only to itself: energies of one guide share batches.

    Attributes:
        network: on the backbone's device, in evaluation mode, its weights without gradients;
            `forward_features` and `forward_head(x, pre_logits)` as timm's.
        info: what must be known to use it.
        backbone: whose samples it looks at.
        clip: whether pixels are clamped to [-1, 1] first, as clean ones are.
    """

    network: nn.Module
    info: ClassifierInfo
    backbone: Backbone
    clip: bool = True

    def inputs(self, samples: Tensor) -> Tensor:
        """Network inputs of samples (N, C, h, w); gradients pass.

        Pixels are clipped as EluCD clips them: what is outside still gets the edge's gradient.
        """
        pixels = samples
        if self.backbone.sample_shape != self.backbone.pixel_shape:
            pixels = self.backbone.decode(samples)
        elif self.clip:
            pixels = samples + (samples.clamp(-1, 1) - samples).detach()
        images = with_channels((pixels + 1) / 2, self.info.channels)
        return to_inputs(images, self.info.normalization, self.info.image_size)

    def logits(self, samples: Tensor) -> Tensor:
        """(N, num_classes) of samples (N, C, h, w)."""
        found: Tensor = self.network(self.inputs(samples))
        return found.float()

    @property
    def num_features(self) -> int:
        """Length of a row of `features`."""
        network: Any = self.network
        return int(network.num_features)

    def features(self, samples: Tensor) -> Tensor:
        """(N, num_features), before the last layer."""
        network: Any = self.network
        return embed(network, self.inputs(samples))[0].float()

    def index(self, class_name: str, at: str) -> int:
        """Which logit is a class's; `at` is the field to name in errors.

        The name itself, or one of the synonyms that ImageNet's names list ("tench, Tinca tinca").

        Raises:
            ConfigError: it does not know the class, or knows two of the name.
        """
        names = self.info.class_names
        wanted = _plain(class_name)
        found = [i for i, name in enumerate(names) if name == class_name] or [
            i for i, name in enumerate(names) if wanted in map(_plain, name.split(","))
        ]
        if len(found) != 1:
            known = [names[index] for index in found] or names
            allowed = f"a classifier that knows one {class_name!r}; this one has {one_of(known)}"
            raise ConfigError(at, class_name, allowed)
        return found[0]


def open_guide(models: Models, path: str, at: str) -> Guide:
    """A classifier of `discl`'s own format, or `timm:NAME` with its ImageNet weights; loaded once.

    Args:
        models: of the renderer; it keeps the guide.
        path: of a file, a URL, or `timm:NAME`.
        at: the config field to name in errors.

    Raises:
        ConfigError: an unknown timm model, or weights that are not here.
        CheckpointError: no such file, or not a classifier.
    """

    def load() -> Guide:
        if path.startswith(OFF_THE_SHELF):
            network, info = _off_the_shelf(path.removeprefix(OFF_THE_SHELF), models.backbone)
        else:
            try:
                network, info = load_classifier(local_checkpoint(path, at))
            except CheckpointError as error:
                raise CheckpointError(f"{at}: {error}") from error
        network = network.to(models.backbone.device).eval().requires_grad_(False)
        return Guide(network=network, info=info, backbone=models.backbone)

    return models.keep(("guide", path), load)


def check_guide(
    path: str, models: Models, at: str, *, names: bool = True, differentiable: bool = True
) -> None:
    """Checks that a classifier can steer a network.

    Args:
        path: as `open_guide`.
        models: of the network.
        at: the config field to name in errors.
        names: whether it must know all classes of the data set.
        differentiable: whether gradients must pass.

    Raises:
        ConfigError: a class of the data set is unknown to it, or no gradient reaches the samples.
        CheckpointError: it cannot be opened.
    """
    guide = open_guide(models, path, at)
    for name in models.class_names if names else ():
        guide.index(name, at)
    if not differentiable:
        return
    with torch.inference_mode(mode=False), torch.enable_grad():
        samples = torch.zeros(1, *models.backbone.sample_shape, device=models.backbone.device)
        logits = guide.logits(samples.requires_grad_())
        reached = None
        if logits.requires_grad:
            (reached,) = torch.autograd.grad(logits.sum(), samples, allow_unused=True)
    if reached is None:
        raise ConfigError(at, path, "a classifier whose gradients reach its images")


def guide_files(path: str) -> tuple[str, ...]:
    """The file whose bytes decide what it says; timm's weights are known by their name."""
    return () if path.startswith(OFF_THE_SHELF) else (path,)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _off_the_shelf(name: str, backbone: Backbone) -> tuple[nn.Module, ClassifierInfo]:
    from timm.data import ImageNetInfo

    height, width = backbone.pixel_shape[1:]
    network = create_classifier(name, 1000, 3, image_size=(height, width), pretrained=True)
    names = tuple(ImageNetInfo().label_descriptions())
    info = ClassifierInfo(
        model=name,
        class_names=names,
        channels=3,
        image_size=(height, width),
        normalization=pretrained_normalization(name),
    )
    return network, info
