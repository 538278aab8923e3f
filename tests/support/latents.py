"""One request through renderer and engine, and the same through a pipeline of diffusers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.engine import Engine
from generators.records import NO_IMAGE_INPUTS, GenerationRequest
from generators.render import Job, Renderer

SOURCE_SHAPE = (4, 16, 16)


def source_latents(seed: int = 11) -> Tensor:
    return torch.randn(SOURCE_SHAPE, generator=torch.Generator().manual_seed(seed))


def source_pixels(seed: int = 12, side: int = 32) -> Tensor:
    """Smooth blobs (3, side, side) in [-1, 1], rounded to 8 bits as stored images are."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].clamp(0, 1)
    return (image * 255).round() / 127.5 - 1


def make_latents(
    backbone: Backbone,
    requests: Sequence[GenerationRequest],
    source: Tensor,
    pixels: Tensor | None = None,
    max_batch_size: int = 8,
) -> list[Tensor]:
    """Latents of all requests, run together, in their order."""
    renderer = Renderer(backbone)
    programs = []
    for index, request in enumerate(requests):
        image = None
        if request.image_inputs != NO_IMAGE_INPUTS:
            assert pixels is not None
            image = backbone.image_condition(pixels, request.image_inputs)
        cond = backbone.condition([request.prompt], [request.class_name])[0]
        job = Job(request=request, source=source, cond=cond, image=image)
        programs.append((index, renderer.program(job)))
    with torch.inference_mode():
        finished = sorted(Engine(backbone, max_batch_size).run(programs), key=lambda one: one.key)
    return [one.value for one in finished if one.value is not None]


@torch.inference_mode()
def diffusers_latents(
    pipeline: Any, request: GenerationRequest, source: Tensor, settings: Mapping[str, Any]
) -> Tensor:
    """Latents (C, h, w) of an image-to-image pipeline on the same noise."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=request.prompt,
        image=source[None],
        strength=(100 - request.image_guidance) / 100,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.noise_seed),
        output_type="latent",
        **settings,
    )
    latents: Tensor = made.images[0]
    return latents


def assert_close(made: Tensor, expected: Tensor) -> None:
    """To 1e-4 of the latents' own scale: untrained networks leave it far behind."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(made / scale, expected / scale, atol=1e-4, rtol=0)


def replace_scheduler(folder: Path, scheduler: Any) -> Path:
    """Gives a saved pipeline another scheduler."""
    scheduler.save_pretrained(folder / "scheduler")
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    file.write_text(json.dumps(index))
    return folder
