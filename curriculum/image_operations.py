"""Single changes of one image, each with a magnitude: what CUDA and its like are composed of."""

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import ImageEnhance, ImageFilter, ImageOps
from PIL.Image import Image, Resampling, Transform

Operation = Callable[[Image, float, float], Image]
"""(image of mode L or RGB, magnitude 0..1, sign -1 or 1) to the changed image of the same form."""


def _crop(image: Image, magnitude: float) -> Image:
    width, height = image.size
    wide, tall = (max(2, round(side * (1 - 0.5 * magnitude))) for side in image.size)
    left, top = (width - wide) // 2, (height - tall) // 2
    return image.resize(image.size, Resampling.BILINEAR, (left, top, left + wide, top + tall))


def _shear(image: Image, horizontal: float = 0.0, vertical: float = 0.0) -> Image:
    width, height = image.size
    towards = (1, horizontal, -horizontal * height / 2, vertical, 1, -vertical * width / 2)
    return image.transform(image.size, Transform.AFFINE, towards)


def _translate(image: Image, horizontal: float = 0.0, vertical: float = 0.0) -> Image:
    width, height = image.size
    towards = (1, 0, -horizontal * width, 0, 1, -vertical * height)
    return image.transform(image.size, Transform.AFFINE, towards)


OPERATIONS: Final[dict[str, Operation]] = {
    "flip": lambda x, m, s: ImageOps.mirror(x),
    "mirror": lambda x, m, s: ImageOps.flip(x),
    "edge": lambda x, m, s: x.filter(ImageFilter.EDGE_ENHANCE),
    "detail": lambda x, m, s: x.filter(ImageFilter.DETAIL),
    "smooth": lambda x, m, s: x.filter(ImageFilter.SMOOTH),
    "autocontrast": lambda x, m, s: ImageOps.autocontrast(x),
    "equalize": lambda x, m, s: ImageOps.equalize(x),
    "invert": lambda x, m, s: ImageOps.invert(x),
    "blur": lambda x, m, s: x.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * m)),
    "crop": lambda x, m, s: _crop(x, m),
    "rotate": lambda x, m, s: x.rotate(30 * m * s),
    "posterize": lambda x, m, s: ImageOps.posterize(x, 8 - round(4 * m)),
    "solarize": lambda x, m, s: ImageOps.solarize(x, 255 - round(255 * m)),
    "color": lambda x, m, s: ImageEnhance.Color(x).enhance(1 + 0.9 * m * s),
    "contrast": lambda x, m, s: ImageEnhance.Contrast(x).enhance(1 + 0.9 * m * s),
    "brightness": lambda x, m, s: ImageEnhance.Brightness(x).enhance(1 + 0.9 * m * s),
    "sharpness": lambda x, m, s: ImageEnhance.Sharpness(x).enhance(1 + 0.9 * m * s),
    "shear_x": lambda x, m, s: _shear(x, horizontal=0.3 * m * s),
    "shear_y": lambda x, m, s: _shear(x, vertical=0.3 * m * s),
    "translate_x": lambda x, m, s: _translate(x, horizontal=0.45 * m * s),
    "translate_y": lambda x, m, s: _translate(x, vertical=0.45 * m * s),
}
"""By name; ranges are those of RandAugment (Cubuk et al. 2020, arXiv:1909.13719) and its kin."""


def operate(name: str, image: Image, magnitude: float, rng: np.random.Generator) -> Image:
    """One operation on an image of mode L or RGB; its sign, where it has one, is drawn."""
    return OPERATIONS[name](image, magnitude, 1.0 if rng.random() < 0.5 else -1.0)
