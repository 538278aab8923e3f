"""What is generated: levels, steps, pictures, requests. The same for all sides of a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.engine_parts.models import PROMPTS
from generators.backbones.base import Backbone
from generators.records import GenerationRequest
from generators.registry import MethodSpec

READ_LEVELS = (10, 30, 50)
"""The image-guidance levels that DisCL's ImageNet-LT curriculum reads, beside real images."""

ALL_LEVELS = tuple(range(0, 100, 10))
"""The ten levels that DisCL's generation script makes (strengths 1.0 to 0.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How images are made.

    Attributes:
        levels: image guidance, percent.
        steps: of the full schedule; a level runs a part of them.
        guidance_scale: of classifier-free guidance.
    """

    levels: tuple[int, ...]
    steps: int
    guidance_scale: float


def prompt_of(index: int) -> str:
    """The prompt of a source, by its number."""
    return PROMPTS[index % len(PROMPTS)]


def picture(index: int, side: int) -> Image.Image:
    """A source: smooth random colours, as large as asked for."""
    noise = np.random.default_rng(index).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def pictures(count: int, side: int) -> dict[str, Image.Image]:
    """Source key to picture."""
    return {f"source-{index:04d}": picture(index, side) for index in range(count)}


def write_pictures(folder: Path, first: int, count: int, side: int) -> list[Path]:
    """JPEG files, 4:3 and wider than what is generated, in one class folder.

    Args:
        folder: is made.
        first: number of the first picture; other numbers are other pictures with other names.
        count: how many.
        side: of what is generated, pixels.
    """
    target = folder / "fox"
    target.mkdir(parents=True)
    paths = []
    for index in range(first, first + count):
        paths.append(target / f"{index:05d}.jpg")
        picture(index, side).resize((side * 2, side * 3 // 2)).save(paths[-1], quality=92)
    return paths


def requests_for(
    sources: Sequence[str], recipe: Recipe, backbone: Backbone
) -> list[GenerationRequest]:
    """One request a source and level, level by level, as plans order them."""
    names = backbone.class_names or ("fox",)
    guidance = MethodSpec(name="cfg", params={"guidance_scale": recipe.guidance_scale})
    return [
        GenerationRequest(
            source_key=key,
            source_sha256="0" * 64,
            label=index % len(names),
            class_name=names[index % len(names)],
            prompt=prompt_of(index),
            image_guidance=level,
            seed=0,
            num_inference_steps=recipe.steps,
            guidance=guidance,
            sampler=MethodSpec(name="ddim"),
            backbone=backbone.fingerprint,
        )
        for level in recipe.levels
        for index, key in enumerate(sources)
    ]


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """(N, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


class PicturesInMemory:
    """Sources that need not be read, for `infra.jobs.sources.programs`."""

    def __init__(self, images: Mapping[str, Image.Image]) -> None:
        self._images = images

    def read_ahead(self, keys: Iterable[str]) -> None:
        """They are there."""

    def batch(self, keys: Sequence[str]) -> Tensor:
        """(N, 3, H, W) in [-1, 1]."""
        return to_pixels([self._images[key] for key in keys])
