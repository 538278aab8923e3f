import dataclasses
import math

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from curriculum.augment import Augment, augment_batch, draw_matrices, warp
from generators.errors import ConfigError

IMAGES = torch.rand(16, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_everything_is_off_by_default() -> None:
    assert augment_batch(IMAGES, Augment(), seeded()) is IMAGES
    still = draw_matrices(Augment(), (16, 8, 12), seeded())
    torch.testing.assert_close(still, torch.eye(3).expand(16, 3, 3))
    torch.testing.assert_close(warp(IMAGES, still, "zeros"), IMAGES)


def test_flip_is_exact_and_as_often_as_asked() -> None:
    flipped = augment_batch(IMAGES, Augment(horizontal_flip=1.0), seeded())
    torch.testing.assert_close(flipped, IMAGES.flip(3), rtol=0, atol=1e-5)
    ramp = torch.linspace(0, 1, 8).expand(2000, 1, 8, 8)
    some = augment_batch(ramp, Augment(horizontal_flip=0.3), seeded())
    assert (some[:, 0, 0, 0] > 0.5).float().mean() == pytest.approx(0.3, abs=0.04)


def test_pad_crop_moves_by_whole_pixels_and_brings_in_black() -> None:
    dot = torch.zeros(500, 1, 9, 13)
    dot[:, :, 4, 6] = 1
    moved = augment_batch(dot, Augment(pad_crop=2), seeded())
    places = moved.flatten(1).argmax(1)
    torch.testing.assert_close(moved.flatten(1).max(1).values, torch.ones(500))
    rows, columns = places // 13, places % 13
    assert set(rows.tolist()) == {2, 3, 4, 5, 6}
    assert set(columns.tolist()) == {4, 5, 6, 7, 8}
    assert len(set(places.tolist())) == 25
    white = augment_batch(torch.ones(200, 1, 8, 8), Augment(pad_crop=2), seeded())
    assert {round(float(v)) for v in white.mean((1, 2, 3)) * 64} <= {
        a * b for a in (6, 7, 8) for b in (6, 7, 8)
    }


@pytest.mark.parametrize("shape", [(16, 24), (24, 16), (17, 17)])
def test_rotation_keeps_shapes_on_images_that_are_not_square(shape: tuple[int, int]) -> None:
    image = torch.zeros(3, *shape)
    height, width = shape
    image[:, height // 2 - 3 : height // 2 + 3, width // 2 - 5 : width // 2 + 4] = torch.rand(
        3, 1, 1, generator=seeded()
    )
    matrices = draw_matrices(Augment(degrees=40), (20, *shape), seeded(3))
    found = warp(image.expand(20, 3, *shape), matrices, "zeros")
    for turned, matrix in zip(found, matrices, strict=True):
        angle = math.degrees(math.acos(float(matrix[0, 0])))
        signed = angle if matrix[1, 0] < 0 else -angle
        wanted = reference.rotate(
            image, -signed, interpolation=reference.InterpolationMode.BILINEAR
        )
        torch.testing.assert_close(turned, wanted, rtol=0, atol=2e-2)


def test_output_is_looked_up_through_flip_crop_and_shift_then_rotation_and_zoom() -> None:
    turn = Augment(degrees=60, scale=(0.5, 2.0))
    move = Augment(
        translate=0.3, pad_crop=2, crop_area=(0.3, 1.0), crop_ratio=1.5, horizontal_flip=0.5
    )
    both = dataclasses.replace(move, degrees=60, scale=(0.5, 2.0))
    turned, moved, found = (
        draw_matrices(augment, (50, 8, 12), seeded(4)) for augment in (turn, move, both)
    )
    torch.testing.assert_close(found, turned @ moved)


def test_draws_stay_within_their_ranges() -> None:
    angles = draw_matrices(Augment(degrees=15), (4000, 8, 8), seeded())
    cosines = angles[:, 0, 0]
    assert cosines.min() >= math.cos(math.radians(15)) - 1e-6
    assert cosines.min() < math.cos(math.radians(14.8))
    zooms = draw_matrices(Augment(scale=(0.5, 2.0)), (4000, 8, 8), seeded())
    zoom = 1 / zooms[:, 0, 0]
    assert 0.5 <= zoom.min() < 0.51
    assert 1.99 < zoom.max() <= 2.0 + 1e-6
    shifts = draw_matrices(Augment(translate=0.25), (4000, 8, 12), seeded())[:, :2, 2]
    assert 0.49 < shifts.abs().max() <= 0.5  # a side spans 2
    crops = draw_matrices(Augment(crop_area=(0.25, 1.0), crop_ratio=4 / 3), (4000, 8, 8), seeded())
    area = crops[:, 0, 0] * crops[:, 1, 1]
    assert 0.2 < area.min() < 0.27
    assert area.max() <= 1
    edges = crops[:, :2, 2].abs() + torch.stack([crops[:, 0, 0], crops[:, 1, 1]], 1)
    assert edges.max() <= 1 + 1e-6  # a crop stays inside its image


def test_resized_crop_is_the_crop_resized() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    half = torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.5, -0.5], [0.0, 0.0, 1.0]]])
    found = warp(ramp, half, "border")[0, 0, 0]
    wanted = torch.nn.functional.interpolate(ramp[..., :8, :8], (16, 16), mode="bilinear")[0, 0, 0]
    torch.testing.assert_close(found[1:-1], wanted[1:-1])


def test_brightness_and_contrast_equal_torchvision() -> None:
    augment = Augment(brightness=0.4, contrast=0.6)
    found = augment_batch(IMAGES[:, :1], augment, seeded(5))
    draw = seeded(5)
    bright = 1 + 0.4 * (2 * torch.rand(16, generator=draw) - 1)
    contrast = 1 + 0.6 * (2 * torch.rand(16, generator=draw) - 1)
    for image, result, b, c in zip(IMAGES[:, :1], found, bright, contrast, strict=True):
        wanted = reference.adjust_contrast(reference.adjust_brightness(image, float(b)), float(c))
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-5)


def test_same_generator_same_images_and_every_image_its_own_draw() -> None:
    augment = Augment(degrees=10, translate=0.1, scale=(0.9, 1.1), brightness=0.2)
    same = IMAGES[:1].expand(16, -1, -1, -1)
    first, again = (augment_batch(same, augment, seeded(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment_batch(same, augment, seeded(2)))
    assert len({tuple(image.flatten().tolist()) for image in first}) == 16
    assert first.min() >= 0
    assert first.max() <= 1


def test_ranges_the_wrong_way_round_are_named() -> None:
    with pytest.raises(ConfigError, match=r"augment\.scale"):
        Augment(scale=(1.1, 0.9))
