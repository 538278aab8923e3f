"""Networks whose self-attention is perturbed: sharing weights with the original, changing nothing.

A copy of the denoiser's modules, around the same tensors, has the perturbation; whoever evaluates
the original at the same time does not see it, and keeps its fast attention.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from generators.backbones.base import Backbone
from generators.errors import ConfigError, one_of
from generators.models import Models
from generators.program import Network
from generators.steering.sharing import sharing_copy

CROSS = "attn2"
"""Diffusers' name of attention from an image to a text."""


def self_attentions(backbone: Backbone) -> dict[str, int]:
    """Name of each self-attention layer to its number of heads, in the network's order."""
    modules: Any = backbone.denoiser.named_modules() if backbone.denoiser is not None else ()
    return {name: int(module.heads) for name, module in modules if _is_self_attention(name, module)}


def _is_self_attention(name: str, module: Any) -> bool:
    parts = all(hasattr(module, part) for part in ("to_q", "to_k", "to_v", "heads"))
    crossed = name.endswith(CROSS) or getattr(module, "is_cross_attention", False)
    return parts and not crossed


def choose_layers(backbone: Backbone, layers: tuple[str, ...], at: str) -> tuple[str, ...]:
    """Layers whose names begin as one of the given; those in the middle where none is given.

    Raises:
        ConfigError: a network without self-attention, or a name that fits none.
    """
    known = self_attentions(backbone)
    if not known:
        allowed = "another method: this network has no self-attention to perturb"
        raise ConfigError("generation.guidance.name", at, allowed)
    check_shareable(backbone)
    if not layers:
        middle = tuple(name for name in known if name.startswith("mid_block"))
        return middle or (list(known)[len(known) // 2],)
    for index, wanted in enumerate(layers):
        if not any(name == wanted or name.startswith(f"{wanted}.") for name in known):
            raise ConfigError(f"{at}.{index}", wanted, one_of(known, wanted))
    fits = tuple(f"{wanted}." for wanted in layers)
    return tuple(name for name in known if name in layers or name.startswith(fits))


def check_shareable(backbone: Backbone) -> None:
    """Raises ConfigError for a network whose weights move about: a copy cannot share them."""
    if hasattr(backbone.denoiser, "_hf_hook"):
        allowed = "'none' with guidance that changes the network"
        raise ConfigError("generation.backbone.runtime.offload", "on", allowed)


def perturbed(models: Models, strengths: Mapping[str, tuple[float, ...]]) -> Network:
    """The network with head outputs O (1 - u) + V u: attention maps mixed with the identity.

    Args:
        models: of the network; it keeps the copy.
        strengths: u of each head of each layer that is perturbed, 0..1; names as
            `self_attentions` gives them.
    """
    key = ("perturbed", tuple(sorted(strengths.items())))

    def make() -> Network:
        module = sharing_copy(models.backbone.denoiser)
        for name, shares in strengths.items():
            _perturb(module.get_submodule(name), shares)
        return models.backbone.with_denoiser(module)

    return models.keep(key, make)


def _perturb(layer: nn.Module, shares: tuple[float, ...]) -> None:
    """Every attention that the layer computes is mixed; of the layer nothing else changes."""
    original = layer.forward
    mode = MixWithValues(shares)

    def forward(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return original(*args, **kwargs)

    layer.forward = forward


class MixWithValues(TorchFunctionMode):
    """Within it, scaled dot product attention returns O (1 - u) + V u, one u a head.

    The values are those of the same positions: attention between sequences of different lengths
    stays as it is. Where text and image attend to each other as one sequence (Stable Diffusion 3,
    FLUX), the text's positions are mixed as well.
    """

    def __init__(self, shares: tuple[float, ...]) -> None:
        super().__init__()
        self.shares = shares

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Only one function is another."""
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = {**dict(zip(("query", "key", "value"), args, strict=False)), **kwargs}
        query, value = named["query"], named["value"]
        if query.shape[-2] != value.shape[-2]:
            return func(*args, **kwargs)
        if min(self.shares) == 1:
            return value
        share = torch.tensor(self.shares, device=value.device, dtype=value.dtype)[:, None, None]
        found: Tensor = func(*args, **kwargs)
        return torch.lerp(found, value, share.expand_as(found))
