"""Stable Diffusion 3 and FLUX in tests: a folder, our backbone on it and diffusers' pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxImg2ImgPipeline, StableDiffusion3Img2ImgPipeline
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.flux import Flux
from generators.backbones.stable_diffusion_3 import StableDiffusion3
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from tests.support.tiny_transformers import IMAGE_SIZE, LATENT_SHAPE

STEPS, TOKENS, NEGATIVE = 10, 24, "blurry, low quality"
SIZE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
Make = Callable[..., GenerationRequest]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder, our backbone on it and diffusers' pipeline."""

    folder: Path
    backbone: Backbone
    pipeline: Any


def silent(pipeline: Any, folder: Path, **parts: None) -> Any:
    loaded = pipeline.from_pretrained(folder, **parts)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def sd3_spec(folder: Path, **changes: Any) -> StableDiffusion3:
    fields = {"negative_prompt": NEGATIVE, "max_sequence_length": TOKENS}
    return StableDiffusion3(path=str(folder), **{**fields, **changes})


def sd3_case(folder: Path, **parts: None) -> Case:
    pipeline = silent(StableDiffusion3Img2ImgPipeline, folder, **parts)
    return Case(folder=folder, backbone=sd3_spec(folder).load("cpu"), pipeline=pipeline)


def flux_spec(folder: Path, **changes: Any) -> Flux:
    fields = {"negative_prompt": NEGATIVE, "max_sequence_length": TOKENS, "image_size": IMAGE_SIZE}
    return Flux(path=str(folder), **{**fields, **changes})


def flux_case(folder: Path, **changes: Any) -> Case:
    pipeline = silent(FluxImg2ImgPipeline, folder)
    backbone = flux_spec(folder, **changes).load("cpu")
    return Case(folder=folder, backbone=backbone, pipeline=pipeline)


def source(seed: int = 0) -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


def theirs(case: Case, request: GenerationRequest, latents: Tensor, **options: Any) -> Tensor:
    """The pipeline's latents (or pixels), from the same source latents and the same noise."""
    scale = float(request.guidance.params.get("guidance_scale", 1))
    flux = isinstance(case.pipeline, FluxImg2ImgPipeline)
    guidance = (
        {"true_cfg_scale": scale, "guidance_scale": 3.5} if flux else {"guidance_scale": scale}
    )
    given = {"output_type": "latent", **SIZE, **guidance, **options}
    output = case.pipeline(
        prompt=request.prompt,
        negative_prompt=NEGATIVE,
        image=latents[None],
        strength=(100 - request.image_guidance) / 100,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.noise_seed),
        max_sequence_length=TOKENS,
        **given,
    ).images
    if flux and given["output_type"] == "latent":
        factor = case.pipeline.vae_scale_factor
        output = case.pipeline._unpack_latents(output, IMAGE_SIZE, IMAGE_SIZE, factor)
    return torch.as_tensor(output[0])


def request_of(make: Make, guidance: int, scale: float, prompt: str, **changes: Any) -> Any:
    return make(
        image_guidance=guidance,
        prompt=prompt,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": scale}),
        **{"num_inference_steps": STEPS, **changes},
    )
