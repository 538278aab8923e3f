"""CUDA's strengths and its operations."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from curriculum.augmentations.cuda import Cuda
from curriculum.image_operations import OPERATIONS, operate
from generators.errors import ConfigError

IMAGE = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def test_strengths_move_by_one_and_stay_within_bounds() -> None:
    cuda, asked = Cuda(max_strength=2, num_images=10, gamma=0.6), []

    def accuracy(labels: NDArray[np.int64], strength: int, count: int) -> NDArray[np.float64]:
        asked.extend((label, strength, count) for label in labels.tolist())
        return np.array([0.7, 0.6, 0.7 if strength == 0 else 0.1])[labels]

    strengths, seen = np.array([0, 0, 0]), []
    for _ in range(4):
        strengths = cuda.update(strengths, accuracy)
        seen.append(strengths.tolist())
    # Class 0 always copes; 0.6 is not more than gamma; class 2 copes with nothing above 0.
    assert seen == [[1, 0, 1], [2, 0, 0], [2, 0, 1], [2, 0, 0]]
    assert set(asked[:3]) == {(0, 0, 10), (1, 0, 10), (2, 0, 10)}
    assert (0, 2, 30) in asked
    assert (1, 1, 20) not in asked  # what fails at a lower strength is not asked a higher one


def test_images_of_strength_zero_and_those_not_drawn_stay_as_they_are() -> None:
    images = IMAGE.expand(400, -1, -1, -1)
    strengths = np.r_[np.zeros(200, int), np.full(200, 5)]
    found = Cuda().apply(images, strengths, np.random.default_rng(0))
    changed = (found != images).flatten(1).any(1)
    assert not changed[:200].any()
    assert 70 < int(changed[200:].sum()) < 130
    again = Cuda().apply(images, strengths, np.random.default_rng(0))
    assert torch.equal(found, again)
    assert len({image.numpy().tobytes() for image in found[200:][changed[200:]]}) > 60


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_keep_the_form_of_images(name: str, channels: int) -> None:
    picture = to_pil_image(IMAGE[:channels, :12])  # higher than wide is not wider than high
    for magnitude in (1 / 30, 10 / 30, 1.0):
        for seed in range(3):
            found = operate(name, picture, magnitude, np.random.default_rng(seed))
            assert (found.size, found.mode) == (picture.size, picture.mode)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("edge", [[-1, -1, -1], [-1, 10, -1], [-1, -1, -1]]),
        ("detail", [[0, -1, 0], [-1, 10, -1], [0, -1, 0]]),
        ("smooth", [[1, 1, 1], [1, 5, 1], [1, 1, 1]]),
    ],
)
def test_filters_are_these_kernels(name: str, kernel: list[list[int]]) -> None:
    weights = torch.tensor(kernel, dtype=torch.float32)
    pixels = IMAGE[:, None].float()  # a channel is an image of its own
    wanted = torch.conv2d(pixels, (weights / weights.sum())[None, None])[:, 0].clamp(0, 255)
    found = pil_to_tensor(operate(name, to_pil_image(IMAGE), 0.5, np.random.default_rng(0)))
    assert (found[:, 1:-1, 1:-1] - wanted).abs().max() <= 1


SIGNED = ("rotate", "color", "contrast", "brightness", "sharpness")
SIGNED += ("shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("name", SIGNED)
def test_signed_operations_start_at_the_image_and_move_with_the_magnitude(name: str) -> None:
    # Ramps: pixels of noise alone would differ as much after one step as after many.
    ramp = torch.linspace(20, 220, 32)
    ramps = (ramp.expand(32, 32), ramp[:, None].expand(32, 32), ramp.flip(0).expand(32, 32))
    noise = 30 * torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    picture = to_pil_image((torch.stack(ramps) + noise).byte())
    before = np.asarray(picture, float)

    def moved(magnitude: float, sign: float) -> float:
        found = np.asarray(OPERATIONS[name](picture, magnitude, sign), float)
        return float(np.abs(found - before)[8:24, 8:24].mean())

    for sign in (1.0, -1.0):
        assert moved(0.0, sign) == 0
        assert 0 < moved(0.3, sign) < moved(0.6, sign)


def test_translations_and_shears_go_as_far_as_said() -> None:
    bar = Image.new("L", (32, 32))
    bar.paste(255, (15, 0, 17, 32))
    moved = np.asarray(OPERATIONS["translate_x"](bar, 0.5, 1.0))
    assert moved[0].argmax() - 15 == round(0.45 * 0.5 * 32)
    sheared = np.asarray(OPERATIONS["shear_x"](bar, 1.0, 1.0))
    tops = [int(row.argmax()) for row in sheared]
    assert abs(tops[16] - 15) <= 1  # the centre stays
    assert abs(abs(tops[0] - tops[31]) - 0.3 * 31) <= 1.5
    assert np.array_equal(
        np.asarray(OPERATIONS["translate_y"](bar, 0.2, 1.0))[20], np.asarray(bar)[0]
    )


def test_operations_can_be_left_out_by_name() -> None:
    only = Cuda(without=tuple(name for name in OPERATIONS if name != "invert"), probability=1)
    found = only.apply(IMAGE[None], np.array([1]), np.random.default_rng(0))
    assert torch.equal(found[0], 255 - IMAGE)
    with pytest.raises(ConfigError, match="did you mean 'rotate'"):
        Cuda(without=("rotat",))
