"""ControlNet: a copy of a UNet's encoder that reads an image (Zhang et al. 2023, arXiv:2302.05543).

Its residuals are added to the UNet's, weighed by a scale of each row's own, so that rows with
different scales share a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError, ConfigError
from generators.latent.checkpoint import Component
from generators.latent.content import config_hash, file_hash
from generators.latent.pipeline import OpenPipeline, load_component
from generators.latent.runtime import Runtime
from generators.latent.weights import has_variant, read_json, weight_files
from generators.program import Conditioning
from generators.registry import JsonValue
from generators.transfer import to_device

IMAGE, SCALE = "control_image", "control_scale"
"""Entries of a conditioning."""

AT = "generation.backbone.controlnet"
SHARED = ("in_channels", "block_out_channels", "cross_attention_dim", "addition_embed_type")
"""Config entries that a ControlNet and its UNet have in common."""

CANNY = (100, 200)
"""Thresholds of the edges that Canny ControlNets were trained on."""

Residuals = tuple[tuple[Tensor, ...] | None, Tensor | None]


def find_controlnet(
    path: str, variant: str | None, unet: Mapping[str, JsonValue] | None
) -> Component:
    """A verified ControlNet for a UNet, from the folder that `save_pretrained` wrote.

    Args:
        path: of the folder.
        variant: of the weights, where it has them.
        unet: config of the network it shall steer; None while that is not known.

    Raises:
        CheckpointError: no such folder, files that are missing, or made for another family.
    """
    folder = local_checkpoint(path, AT)
    if not folder.is_dir():
        raise CheckpointError(f"controlnet: no folder {path!r}")
    file = folder / "config.json"
    config = read_json(file)
    if config.get("_class_name") != "ControlNetModel":
        raise CheckpointError(
            f"{file}: _class_name is {config.get('_class_name')!r}, expected 'ControlNetModel'"
        )
    if unet is not None:
        _compare(file, config, unet)
    if config.get("conditioning_channels", 3) != 3:
        raise CheckpointError(f"{file}: conditioning_channels must be 3, it reads no images")
    used = variant if variant and has_variant(folder, "diffusers", variant) else None
    return Component(
        name="controlnet",
        library="diffusers",
        class_name="ControlNetModel",
        folder=folder,
        variant=used,
        configs=(file,),
        files=weight_files(folder, "diffusers", used),
    )


def _compare(file: Path, config: Mapping[str, JsonValue], unet: Mapping[str, JsonValue]) -> None:
    for name in SHARED:
        if config.get(name) != unet.get(name):
            raise CheckpointError(
                f"{file}: {name} is {config.get(name)!r}, but {unet.get(name)!r} in the "
                "checkpoint's unet; this ControlNet was made for another family"
            )


def controlnet_identity(part: Component) -> list[str]:
    """What of it decides pixels, as hashes."""
    return [config_hash(part.configs[0]), *(file_hash(file) for file in part.files)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlNet:
    """A loaded ControlNet.

    Attributes:
        network: diffusers' own class.
        device: where it runs.
        dtype: of its weights.
    """

    network: Any
    device: torch.device
    dtype: torch.dtype

    def condition(
        self, pixels: Tensor, kind: Literal["source", "edges"], scale: float
    ) -> Conditioning:
        """Entries for both evaluations of guidance: the image (1, 3, H, W), the scale (1, 1, 1, 1).

        Args:
            pixels: (3, H, W) in [-1, 1].
            kind: what it is shown of them.
            scale: of its residuals.

        Raises:
            ConfigError: edges where OpenCV is not installed.
        """
        image = edges(pixels) if kind == "edges" else (pixels + 1) / 2
        weight = torch.full((1, 1, 1, 1), scale, device=self.device, dtype=self.dtype)
        return {IMAGE: to_device(image[None].to(self.dtype), self.device), SCALE: weight}

    def residuals(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        text: Tensor,
        added: Mapping[str, Tensor] | None,
        cond: Conditioning,
    ) -> Residuals:
        """What is added to the UNet's skip connections and to its middle.

        Args:
            x_t: (N, C, h, w), in the UNet's data type, as are the others.
            timesteps: (N,).
            text: (N, tokens, channels) of the prompts.
            added: SDXL's further conditioning.
            cond: with both entries.
        """
        down, middle = self.network(
            x_t,
            timesteps,
            encoder_hidden_states=text,
            controlnet_cond=cond[IMAGE],
            conditioning_scale=cond[SCALE],
            added_cond_kwargs=added,
            return_dict=False,
        )
        return tuple(down), middle


def open_controlnet(part: Component, opened: OpenPipeline, runtime: Runtime) -> ControlNet:
    """Loads it onto the pipeline's device; it stays there whatever else is offloaded.

    Raises:
        CheckpointError: weights that do not fit its config.
    """
    network = load_component(part, opened.dtype, balanced=False).eval().requires_grad_(False)
    if runtime.channels_last:
        network.to(memory_format=torch.channels_last)
    return ControlNet(network=network.to(opened.device), device=opened.device, dtype=opened.dtype)


def edges(pixels: Tensor) -> Tensor:
    """Canny edges of an image (3, H, W) in [-1, 1]: 1 on edges, else 0, on the CPU.

    This waits for the device, once a source image: OpenCV works on the host.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    if find_spec("cv2") is None:
        allowed = (
            "'source' or 'none'; edges need OpenCV: pip install 'diffusion-curriculum[control]'"
        )
        raise ConfigError("generation.image_inputs.control", "edges", allowed)
    import cv2

    image = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    found = cv2.Canny(image.cpu().contiguous().numpy(), *CANNY)
    return torch.from_numpy(found).float().div(255).expand(3, -1, -1)
