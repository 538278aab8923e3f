"""What others do: diffusers' pipeline as its users call it, and DisCL's published loop.

Both are given what is good for them: no progress bar, sources in the right size or small files, one
random generator for a whole call (with a list of them the pipeline encodes images one by one).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.engine_parts.workload import Recipe, prompt_of


def call_arguments(recipe: Recipe, level: int) -> dict[str, Any]:
    """What the pipeline is called with for a level.

    The strength is divided, not subtracted: `int(50 * (1 - 0.9))` would lose a step.
    """
    return {
        "strength": (100 - level) / 100,
        "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance_scale,
    }


def img2img(
    pipeline: Any, images: Sequence[Image.Image], recipe: Recipe, level: int, batch_size: int
) -> list[Image.Image]:
    """All images at one level: calls with lists of `batch_size` images and prompts."""
    made: list[Image.Image] = []
    generator = torch.Generator().manual_seed(level)
    for start in range(0, len(images), batch_size):
        part = list(images[start : start + batch_size])
        made += pipeline(
            prompt=[prompt_of(start + row) for row in range(len(part))],
            image=part,
            generator=generator,
            **call_arguments(recipe, level),
        ).images
    return made


def discl_loop(
    pipeline: Any, files: Sequence[Path], recipe: Recipe, size: int, folder: Path
) -> Iterator[Path]:
    """One image a call: every hard image, every level; read, resized and saved each time.

    Args:
        pipeline: image-to-image.
        files: the hard images.
        recipe: levels, steps and scale.
        size: side of what is generated, pixels.
        folder: for the results.

    Yields:
        The file of each image.
    """
    folder.mkdir(parents=True)
    for index, file in enumerate(files):
        for level in recipe.levels:
            source = Image.open(file).convert("RGB").resize((size, size))
            made = pipeline(
                prompt=prompt_of(index),
                image=source,
                generator=torch.Generator().manual_seed(index),
                **call_arguments(recipe, level),
            ).images[0]
            path = folder / f"{file.stem}-{100 - level}.png"
            made.save(path)
            yield path
