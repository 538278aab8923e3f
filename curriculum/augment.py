"""Random changes of training images, one draw an image, a whole batch at once on its device.

All geometry is one matrix and one resampling. Random numbers come from a CPU generator that the
caller gives, so every device sees the same ones. Everything is off by default.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from generators.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Which changes, and how strong. Draws are uniform.

    Attributes:
        degrees: rotation by up to this angle either way, 0..180.
        translate: shift by up to this share of the side, either way, 0..1.
        scale: (smallest, largest) zoom; (1, 1) is none.
        pad_crop: shift by up to this many whole pixels either way: pad, then crop.
        crop_area: (smallest, largest) share of the area that a random resized crop keeps.
        crop_ratio: largest change of the aspect ratio of that crop, >= 1; torchvision's is 4/3.
        horizontal_flip: probability.
        brightness: factor within 1 +- this.
        contrast: factor within 1 +- this, about the image's mean.
        padding: what comes in from outside: `zeros` is black.
    """

    degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Share = 0.0
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    pad_crop: Annotated[int, Field(ge=0)] = 0
    crop_area: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (
        1.0,
        1.0,
    )
    crop_ratio: Annotated[float, Field(ge=1)] = 1.0
    horizontal_flip: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    padding: Literal["zeros", "border", "reflection"] = "zeros"

    def __post_init__(self) -> None:
        for name, (low, high) in (("scale", self.scale), ("crop_area", self.crop_area)):
            if low > high:
                raise ConfigError(f"augment.{name}", (low, high), "(smallest, largest)")

    @property
    def moves_pixels(self) -> bool:
        """Whether a resampling is needed at all."""
        still = Augment(brightness=self.brightness, contrast=self.contrast, padding=self.padding)
        return self != still


def augment_batch(
    images: Tensor,
    augment: Augment,
    generator: torch.Generator,
    count: int | None = None,
    part: slice = slice(None),
) -> Tensor:
    """Changes each image of a batch by its own draw.

    Args:
        images: (N, C, H, W) floats in [0, 1].
        augment: the changes.
        generator: on the CPU.
        count: images of the batch, if these are only a part of it. Draws are for all of them: an
            image's own is the same in the whole batch and in a part.
        part: the places of these images in the batch.

    Returns:
        (N, C, H, W) floats in [0, 1].
    """
    count = count or len(images)
    height, width = images.shape[2:]
    if augment.moves_pixels:
        matrices = draw_matrices(augment, (count, height, width), generator)[part]
        images = warp(images, matrices.to(images.device), augment.padding)
    if augment.brightness:
        factor = _uniform(count, -augment.brightness, augment.brightness, generator)[part] + 1
        images = (images * factor.view(-1, 1, 1, 1).to(images.device)).clamp(0, 1)
    if augment.contrast:
        factor = _uniform(count, -augment.contrast, augment.contrast, generator)[part] + 1
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        factor = factor.view(-1, 1, 1, 1).to(images.device)
        images = torch.lerp(mean.expand_as(images), images, factor).clamp(0, 1)
    return images


def warp(images: Tensor, matrices: Tensor, padding: str) -> Tensor:
    """Bilinear resampling by maps from output to input positions.

    Args:
        images: (N, C, H, W).
        matrices: (N, 3, 3) on positions (x, y, 1) in half sides from the centre: -1 and 1 are the
            outer edges of the image.
        padding: a mode of `grid_sample`.
    """
    grid = functional.affine_grid(matrices[:, :2], list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def draw_matrices(
    augment: Augment, shape: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """(N, 3, 3) random maps from output to input positions, for `warp`; shape is (N, H, W).

    An output pixel is looked up through flip, crop, shift, then rotation and zoom about the centre.
    """
    count, height, width = shape
    aspect = height / width
    draws = torch.rand((11, count), generator=generator)
    matrices = torch.zeros((count, 3, 3))
    matrices[:, 2, 2] = 1

    low, high = augment.crop_area
    area, ratio = low + (high - low) * draws[0], math.log(augment.crop_ratio)
    stretch = torch.exp((2 * draws[1] - 1) * ratio / 2)
    wide = (area.sqrt() * stretch).clamp(max=1)
    tall = (area.sqrt() / stretch).clamp(max=1)
    flip = 1 - 2 * (draws[2] < augment.horizontal_flip).float()
    pixels = torch.floor(draws[3:5] * (2 * augment.pad_crop + 1)) - augment.pad_crop
    # A position spans 2 from edge to edge.
    shifts = (2 * draws[5:7] - 1) * augment.translate * 2
    shift_x = (2 * draws[7] - 1) * (1 - wide) + pixels[0] * 2 / width + shifts[0]
    shift_y = (2 * draws[8] - 1) * (1 - tall) + pixels[1] * 2 / height + shifts[1]

    angle = torch.deg2rad((2 * draws[9] - 1) * augment.degrees)
    low, high = augment.scale
    zoom = low + (high - low) * draws[10]
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrices[:, 0, 0] = cos * wide * flip
    matrices[:, 0, 1] = -sin * aspect * tall
    matrices[:, 0, 2] = cos * shift_x - sin * aspect * shift_y
    matrices[:, 1, 0] = sin / aspect * wide * flip
    matrices[:, 1, 1] = cos * tall
    matrices[:, 1, 2] = sin / aspect * shift_x + cos * shift_y
    return matrices


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
