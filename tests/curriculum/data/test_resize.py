import io

import numpy as np
import pytest
from PIL import Image

from curriculum.data.decode import decode, encode_image, resize


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_leaves_the_right_size_alone(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, channels), dtype=np.uint8)
    np.testing.assert_array_equal(resize(pixels, 9), pixels)


def test_resize_only_cuts_when_the_shortest_side_fits():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 13, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(pixels, 8), pixels[:, 2:10])


@pytest.mark.parametrize(("size", "kernel"), [(30, "LANCZOS"), (120, "BICUBIC")])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_equals_scaling_then_cutting(size, kernel, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, channels), dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    width = 100 * size // 60
    scaled = np.asarray(image.resize((width, size), Image.Resampling[kernel]))
    left = (width - size) // 2
    expected = scaled[:, left : left + size].reshape(size, size, channels)
    np.testing.assert_allclose(resize(pixels, size).astype(int), expected, atol=1)


def test_resize_antialiases():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, 8)[:, 1:-1]
    assert np.abs(small.astype(int) - 127).max() <= 8  # nearest would give all 0 or all 255


def test_resize_of_a_thin_image_stays_small():
    assert resize(np.zeros((1, 100_000, 3), np.uint8), 224).shape == (224, 224, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_loses_nothing_and_is_repeatable(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    data = encode_image(pixels, "png", 100)
    assert data == encode_image(pixels.copy(), "png", 100)
    np.testing.assert_array_equal(decode(data, channels), pixels)


def test_jpeg_quality_counts_and_is_repeatable():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    high, low = encode_image(pixels, "jpeg", 95), encode_image(pixels, "jpeg", 20)
    assert high == encode_image(pixels, "jpeg", 95)
    assert len(high) > 2 * len(low)
    assert Image.open(io.BytesIO(high)).format == "JPEG"
    assert decode(encode_image(pixels[..., :1], "jpeg", 90), 1).shape == (32, 32, 1)


def test_encoding_takes_views():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)[::-1, 2:6]
    np.testing.assert_array_equal(decode(encode_image(pixels, "png", 1), 3), pixels)
