"""Image classifiers: any timm model, and a small one of ours for tiny images; saved and loaded.

Knows nothing of how they are trained. Files are safetensors whose metadata says what is needed to
use the network: architecture, class names, image size, normalisation.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from generators.errors import ConfigError
from generators.seeding import seeded

SMALL_CNN = "small_cnn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """Shifts and scales images as a network expects them.

    Attributes:
        mean: one value, or one a channel, in units of [0, 1] images.
        std: likewise, > 0. The default maps [0, 1] to [-1, 1].
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def apply(self, images: Tensor) -> Tensor:
        """(N, C, H, W) floats in [0, 1] to network inputs of the same shape."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images - mean) / std


def with_channels(images: Tensor, channels: int) -> Tensor:
    """(N, C, H, W) floats with `channels` channels: luma of ITU-R BT.601, or gray repeated."""
    if images.shape[1] == 3 and channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
        return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
    return images.expand(-1, channels, -1, -1)


def to_inputs(
    images: Tensor, normalization: Normalization, image_size: tuple[int, int] | None = None
) -> Tensor:
    """Network inputs from images (N, C, H, W) in [0, 1]: resized where needed, normalised.

    Args:
        images: floats.
        normalization: of the network.
        image_size: (height, width) of the network's inputs; None keeps theirs.
    """
    if image_size is not None and tuple(images.shape[2:]) != tuple(image_size):
        images = nn.functional.interpolate(
            images, image_size, mode="bilinear", antialias=True, align_corners=False
        )
    return normalization.apply(images).contiguous(memory_format=torch.channels_last)


def embed(network: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (N, num_features) before the last layer, and logits (N, num_outputs).

    Args:
        network: `forward_features` and `forward_head(x, pre_logits)` as timm's.
        inputs: (N, C, H, W), as `to_inputs` makes them.
    """
    features = network.forward_features(inputs)
    return network.forward_head(features, pre_logits=True), network.forward_head(features)


class SmallCnn(nn.Module):
    """Three convolution blocks (32, 64, 128 channels) and a linear head, for images from 8x8.

    About 94,000 parameters. The two max-poolings come right after the first blocks, so that most
    multiplications happen at a quarter and a sixteenth of the pixels.
    """

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 128
        self.features = nn.Sequential(
            *_block(channels, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            nn.MaxPool2d(2),
        )
        self.last_block = nn.Sequential(*_block(64, self.num_features))
        self.head = nn.Linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) normalised inputs to (N, 128, H // 4, W // 4)."""
        features: Tensor = self.last_block(self.features(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits (N, num_classes), or with `pre_logits` to embeddings (N, 128)."""
        pooled = x.mean(dim=(2, 3))
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) normalised inputs to logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def create_classifier(
    name: str,
    num_classes: int,
    channels: int,
    *,
    image_size: tuple[int, int] | None = None,
    pretrained: bool = False,
    seed: int = 0,
) -> nn.Module:
    """A new classifier; `forward`, `forward_features` and `forward_head` are timm's.

    Args:
        name: `small_cnn` or any timm model, with or without a weights tag (`resnet18.a1_in1k`).
        num_classes: logits.
        channels: of its inputs; timm adapts the first layer.
        image_size: (height, width) it will see; tried out. Networks with a fixed input size (ViT)
            are built for it.
        pretrained: whether to start from timm's weights, from its cache or the hub.
        seed: of the initial weights; the global random state is left alone.

    Raises:
        ConfigError: no such model, no pretrained weights, or an image size it cannot take.
    """
    with seeded(seed):
        if name == SMALL_CNN:
            if pretrained:
                raise ConfigError("pretrained", True, f"false: {SMALL_CNN} has no weights")
            network: nn.Module = SmallCnn(num_classes, channels)
        else:
            network = _create_timm(name, num_classes, channels, image_size, pretrained)
        if image_size is not None:
            _try_size(network, name, channels, image_size)
    return network


def _try_size(model: nn.Module, name: str, channels: int, image_size: tuple[int, int]) -> None:
    """Finds a size that a network cannot take before anything is trained."""
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, channels, *image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        allowed = f"a size (height, width) that {name!r} takes ({error})"
        raise ConfigError("image_size", image_size, allowed) from error
    model.train()


def _create_timm(
    name: str, num_classes: int, channels: int, image_size: tuple[int, int] | None, pretrained: bool
) -> nn.Module:
    import timm  # heavy: seconds, and the small network does without it

    if not timm.is_model(name):
        known = [SMALL_CNN, *timm.list_models(), *timm.list_pretrained()]
        close = ", ".join(repr(match) for match in get_close_matches(name, known, n=5))
        hint = f"; close to it: {close}" if close else ""
        raise ConfigError("model", name, f"'{SMALL_CNN}' or a timm model name{hint}")
    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
        if image_size is not None and config is not None and config.fixed_input_size:
            options["img_size"] = image_size
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, **options
        )
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        wanted = f"channels={channels}, image_size={image_size}, pretrained={pretrained}"
        raise ConfigError("model", name, f"a timm model that takes {wanted} ({error})") from error
    return network


def pretrained_normalization(name: str) -> Normalization:
    """The mean and standard deviation that timm's weights of a model were trained with."""
    if name == SMALL_CNN:
        return Normalization()
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        raise ConfigError("model", name, "a timm model with pretrained weights")
    return Normalization(mean=tuple(config.mean), std=tuple(config.std))
