"""Single changes of one image, each with a magnitude: what CUDA and its like are composed of."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as change

Operation = Callable[[Tensor, float, float], Tensor]
"""(image (C, H, W) uint8, magnitude 0..1, sign -1 or 1) to the changed image."""

# 3x3 kernels of Pillow's filters of these names, before division by their sums.
DETAIL = ((0, -1, 0), (-1, 10, -1), (0, -1, 0))
EDGE_ENHANCE = ((-1, -1, -1), (-1, 10, -1), (-1, -1, -1))
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))


def _convolve(image: Tensor, kernel: tuple[tuple[int, ...], ...]) -> Tensor:
    weights = torch.tensor(kernel, dtype=torch.float32)
    weights = (weights / weights.sum()).expand(len(image), 1, 3, 3)
    padded = functional.pad(image[None].float(), (1, 1, 1, 1), mode="replicate")
    found = functional.conv2d(padded, weights, groups=len(image))[0]
    return found.round().clamp(0, 255).to(torch.uint8)


def _affine(
    image: Tensor,
    *,
    angle: float = 0.0,
    shift: tuple[float, float] = (0, 0),
    shear: tuple[float, float] = (0, 0),
) -> Tensor:
    moved: Tensor = change.affine(
        image,
        angle=angle,
        translate=[round(shift[0] * image.shape[2]), round(shift[1] * image.shape[1])],
        scale=1.0,
        shear=[180 / np.pi * float(np.arctan(part)) for part in shear],
    )
    return moved


def _crop(image: Tensor, magnitude: float) -> Tensor:
    height, width = image.shape[1:]
    tall, wide = (max(2, round(side * (1 - 0.5 * magnitude))) for side in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    found: Tensor = change.resized_crop(image, top, left, tall, wide, [height, width])
    return found


OPERATIONS: Final[dict[str, Operation]] = {
    "flip": lambda x, m, s: change.horizontal_flip(x),
    "mirror": lambda x, m, s: change.vertical_flip(x),
    "edge": lambda x, m, s: _convolve(x, EDGE_ENHANCE),
    "detail": lambda x, m, s: _convolve(x, DETAIL),
    "smooth": lambda x, m, s: _convolve(x, SMOOTH),
    "autocontrast": lambda x, m, s: change.autocontrast(x),
    "equalize": lambda x, m, s: change.equalize(x),
    "invert": lambda x, m, s: change.invert(x),
    "blur": lambda x, m, s: change.gaussian_blur(x, [3, 3], [0.1 + 1.9 * m]),
    "crop": lambda x, m, s: _crop(x, m),
    "rotate": lambda x, m, s: _affine(x, angle=30 * m * s),
    "posterize": lambda x, m, s: change.posterize(x, 8 - round(4 * m)),
    "solarize": lambda x, m, s: change.solarize(x, 255 - round(255 * m)),
    "color": lambda x, m, s: change.adjust_saturation(x, 1 + 0.9 * m * s) if len(x) == 3 else x,
    "contrast": lambda x, m, s: change.adjust_contrast(x, 1 + 0.9 * m * s),
    "brightness": lambda x, m, s: change.adjust_brightness(x, 1 + 0.9 * m * s),
    "sharpness": lambda x, m, s: change.adjust_sharpness(x, 1 + 0.9 * m * s),
    "shear_x": lambda x, m, s: _affine(x, shear=(0.3 * m * s, 0)),
    "shear_y": lambda x, m, s: _affine(x, shear=(0, 0.3 * m * s)),
    "translate_x": lambda x, m, s: _affine(x, shift=(0.45 * m * s, 0)),
    "translate_y": lambda x, m, s: _affine(x, shift=(0, 0.45 * m * s)),
}
"""By name; ranges are those of RandAugment (Cubuk et al. 2020, arXiv:1909.13719) and its kin."""


def operate(name: str, image: Tensor, magnitude: float, rng: np.random.Generator) -> Tensor:
    """One operation on an image (C, H, W) uint8; its sign, where it has one, is drawn."""
    return OPERATIONS[name](image, magnitude, 1.0 if rng.random() < 0.5 else -1.0)
