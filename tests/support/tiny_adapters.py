"""Random LoRAs and learned words in the formats that trainers write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

WEIGHTS = "pytorch_lora_weights.safetensors"


def save_lora(pipeline: Any, folder: Path, *, encoders: Sequence[str], seed: int) -> Path:
    """A LoRA of the denoiser and of these text encoders, in the formats of diffusers.

    Its older names, which only a UNet's attention has, where no text encoder is trained; else
    PEFT's.
    """
    name = "unet" if "unet" in pipeline.components else "transformer"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = ["to_q", "to_v", *(["conv1"] if encoders and name == "unet" else [])]
        layers = {
            name: _adapt(pipeline.components[name], targets),
            **{part: _adapt(pipeline.components[part], ["q_proj", "fc1"]) for part in encoders},
        }
    if not encoders and name == "unet":
        layers[name] = convert_state_dict_to_diffusers(layers[name])
    named = {f"{part}_lora_layers": state for part, state in layers.items()}
    type(pipeline).save_lora_weights(folder, **named)
    return folder


def _adapt(network: Any, targets: list[str]) -> dict[str, Tensor]:
    """Adds an adapter with random weights to a network, and returns these."""
    config = LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    network.add_adapter(config, adapter_name="made")
    state: dict[str, Tensor] = get_peft_model_state_dict(network, adapter_name="made")
    return state


def save_kohya_lora(pipeline: Any, file: Path, *, seed: int, alpha: float) -> Path:
    """What kohya's scripts write: flat names, and a scale of its own for each layer."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for prefix, network, ends in (
        ("lora_unet", pipeline.unet, ("attn1.to_q", "attn2.to_v")),
        ("lora_te_text_model", pipeline.text_encoder, ("q_proj", "out_proj", "fc1")),
    ):
        for name, module in network.named_modules():
            if name.endswith(ends):
                flat = f"{prefix}_{name.replace('.', '_')}"
                outputs, inputs = module.weight.shape
                state[f"{flat}.lora_down.weight"] = torch.randn(2, inputs, generator=generator)
                state[f"{flat}.lora_up.weight"] = torch.randn(outputs, 2, generator=generator)
                state[f"{flat}.alpha"] = torch.tensor(alpha)
    save_file(state, file)
    return file


def save_words(file: Path, seed: int, **shapes: tuple[int, ...]) -> Path:
    """A textual inversion: tensor name to its shape."""
    generator = torch.Generator().manual_seed(seed)
    save_file({name: torch.randn(s, generator=generator) for name, s in shapes.items()}, file)
    return file
