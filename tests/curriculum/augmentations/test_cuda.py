"""CUDA's strengths and its operations."""

import numpy as np
import pytest
import torch

from curriculum.augmentations.cuda import Cuda
from curriculum.image_operations import OPERATIONS, operate
from generators.errors import ConfigError

IMAGE = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def test_strengths_move_by_one_and_stay_within_bounds() -> None:
    cuda, asked = Cuda(max_strength=2, num_images=10, gamma=0.6), []

    def accuracy(label: int, strength: int, count: int) -> float:
        asked.append((label, strength, count))
        return (0.7, 0.6, 0.7 if strength == 0 else 0.1)[label]

    strengths, seen = np.array([0, 0, 0]), []
    for _ in range(4):
        strengths = cuda.update(strengths, accuracy)
        seen.append(strengths.tolist())
    # Class 0 always copes; 0.6 is not more than gamma; class 2 copes with nothing above 0.
    assert seen == [[1, 0, 1], [2, 0, 0], [2, 0, 1], [2, 0, 0]]
    assert set(asked[:3]) == {(0, 0, 10), (1, 0, 10), (2, 0, 10)}
    assert (0, 2, 30) in asked


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
    rng = np.random.default_rng(0)
    for magnitude in (1 / 30, 10 / 30, 1.0):
        found = operate(name, IMAGE[:channels], magnitude, rng)
        assert found.shape == (channels, 16, 16)
        assert found.dtype == torch.uint8


def test_filters_equal_those_of_pillow() -> None:
    from PIL import Image, ImageFilter

    picture = Image.fromarray(IMAGE.permute(1, 2, 0).numpy())
    named = {"edge": "EDGE_ENHANCE", "detail": "DETAIL", "smooth": "SMOOTH"}
    for name, other in named.items():
        wanted = np.array(picture.filter(getattr(ImageFilter, other)))[1:-1, 1:-1].astype(int)
        found = operate(name, IMAGE, 0.5, np.random.default_rng(0)).permute(1, 2, 0).numpy()
        assert np.abs(found[1:-1, 1:-1].astype(int) - wanted).max() <= 1


def test_geometry_grows_with_the_magnitude() -> None:
    bar = torch.zeros(1, 32, 32, dtype=torch.uint8)
    bar[:, :, 15:17] = 255
    moved = OPERATIONS["translate_x"](bar, 0.5, 1.0)
    assert moved[0, 0].argmax() - bar[0, 0].argmax() == round(0.45 * 0.5 * 32)
    assert torch.equal(OPERATIONS["translate_x"](bar, 0.0, 1.0), bar)
    assert torch.equal(OPERATIONS["rotate"](bar, 0.0, 1.0), bar)


def test_operations_can_be_left_out_by_name() -> None:
    only = Cuda(without=tuple(name for name in OPERATIONS if name != "invert"), probability=1)
    found = only.apply(IMAGE[None], np.array([1]), np.random.default_rng(0))
    assert torch.equal(found[0], 255 - IMAGE)
    with pytest.raises(ConfigError, match="did you mean 'rotate'"):
        Cuda(without=("rotat",))
