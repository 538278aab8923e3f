"""Random ControlNets and IP-Adapters on disk, in the layouts of the hub."""

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

FEATURES, WIDTH, ENCODER_SIDE = 12, 16, 24


def save_controlnet(unet: Any, folder: Path, seed: int = 5) -> Path:
    """A ControlNet of a UNet; real ones start from zero, where nothing could be compared."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    return folder


def save_ip_adapter(unet: Any, folder: Path, *, full: bool = False, seed: int = 6) -> Path:
    """`ip-adapter.safetensors` and `image_encoder`; full: it reads all patches of the image."""
    width = unet.config.cross_attention_dim
    state = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=16,
            projection_dim=FEATURES,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=ENCODER_SIDE,
            patch_size=8,
        )
        encoder = CLIPVisionModelWithProjection(config)
        for parameter in encoder.parameters():
            # The library starts with tiny weights, with which all images look the same.
            parameter.data = torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
        for name, shape in (_full(width) if full else _basic(width)).items():
            state[f"image_proj.{name}"] = torch.randn(shape)
        places = [name for name in unet.attn_processors if "attn2" in name]
        for index, name in enumerate(places):
            keys = unet.get_submodule(name.removesuffix(".processor")).to_k
            for part in ("to_k_ip", "to_v_ip"):
                weight = torch.randn_like(keys.weight)
                state[f"ip_adapter.{2 * index + 1}.{part}.weight"] = weight
    encoder.save_pretrained(folder / "image_encoder")
    save_file(state, folder / "ip-adapter.safetensors")
    return folder


def _basic(width: int) -> dict[str, tuple[int, ...]]:
    """Four words from the features of the whole image."""
    return {
        "proj.weight": (4 * width, FEATURES),
        "proj.bias": (4 * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


def _full(width: int) -> dict[str, tuple[int, ...]]:
    """A word from each patch."""
    return {
        "proj.0.weight": (WIDTH, WIDTH),
        "proj.0.bias": (WIDTH,),
        "proj.2.weight": (width, WIDTH),
        "proj.2.bias": (width,),
        "proj.3.weight": (width,),
        "proj.3.bias": (width,),
    }
