"""A safety checker of random weights on disk, as a Stable Diffusion folder holds it."""

from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor


def save_safety_checker(folder: Path, seed: int = 3) -> Path:
    """Writes `safety_checker` and `feature_extractor`; the thresholds are all zero."""
    vision: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPConfig(vision_config=vision, projection_dim=12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        checker = StableDiffusionSafetyChecker(config)
        for parameter in checker.parameters():
            # The library starts with tiny weights, with which all images look the same.
            parameter.data = torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
    checker.concept_embeds_weights.data.zero_()
    checker.special_care_embeds_weights.data.zero_()
    checker.save_pretrained(folder / "safety_checker")
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(folder / "feature_extractor")
    return folder
