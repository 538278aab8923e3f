import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from curriculum.data.decode import UPRIGHT, decode
from generators.errors import SampleRejected


def save(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def rejected(data):
    with pytest.raises(SampleRejected) as caught:
        decode(data, 3)
    return caught.value


@pytest.fixture
def quadrants():
    """16 wide, 32 high; every quadrant another gray, flat, so that JPEG keeps it."""
    pixels = np.zeros((32, 16, 3), np.uint8)
    pixels[:16, :8], pixels[:16, 8:], pixels[16:, :8], pixels[16:, 8:] = 10, 90, 170, 250
    return pixels


def with_orientation(pixels, orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format == "JPEG" else {}
    return save(Image.fromarray(pixels), format, exif=exif, **options)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_once(quadrants, orientation, format):
    data = with_orientation(quadrants, orientation, format)
    stored = np.asarray(Image.open(io.BytesIO(with_orientation(quadrants, 1, format))))
    expected = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(decode(data, 3), expected)


def test_orientation_agrees_with_pillow(quadrants):
    for orientation in UPRIGHT:
        data = with_orientation(quadrants, orientation, "PNG")
        reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(decode(data, 3), np.asarray(reference))


def test_damaged_exif_does_not_cost_the_image(quadrants):
    data = bytearray(with_orientation(quadrants, 6, "JPEG"))
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 12] = b"\xff" * 12
    assert decode(bytes(data), 3).shape == (32, 16, 3)


def test_unknown_orientation_is_upright(quadrants):
    np.testing.assert_array_equal(decode(with_orientation(quadrants, 77, "PNG"), 3), quadrants)


def test_alpha_is_laid_on_white():
    pixels = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [200, 0, 100, 128]]], np.uint8)
    out = decode(save(Image.fromarray(pixels), "PNG"), 3)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[0, 1].tolist() == [200, 0, 0]
    mixed = np.array([200, 0, 100]) * 128 / 255 + 255 * 127 / 255
    np.testing.assert_allclose(out[0, 2], mixed, atol=1)


def test_gray_with_alpha_is_laid_on_white():
    pixels = np.array([[[0, 0], [0, 255]]], np.uint8)
    data = save(Image.fromarray(pixels, "LA"), "PNG")
    assert decode(data, 1)[..., 0].tolist() == [[255, 0]]
    assert decode(data, 3).tolist() == [[[255] * 3, [0] * 3]]


def palette_image():
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_palette_is_resolved():
    out = decode(save(palette_image(), "PNG"), 3)
    assert out.tolist() == [[[0, 0, 0], [255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("format", "transparency"), [("PNG", 0), ("PNG", bytes([0, 255, 255])), ("GIF", 0)]
)
def test_transparent_palette_entry_is_white(format, transparency):
    out = decode(save(palette_image(), format, transparency=transparency), 3)
    assert out.tolist() == [[[255, 255, 255], [255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize(("mode", "color", "key"), [("RGB", (1, 2, 3), (1, 2, 3)), ("L", 7, 7)])
def test_transparent_colour_is_white(mode, color, key):
    image = Image.new(mode, (2, 1), color)
    image.putpixel((1, 0), 0 if mode == "L" else (0, 0, 0))
    out = decode(save(image, "PNG", transparency=key), 3)
    assert out.tolist() == [[[255, 255, 255], [0, 0, 0]]]


def test_cmyk_jpeg_becomes_rgb():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    out = decode(save(red, "JPEG", quality=100), 3).astype(int)
    assert np.abs(out - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(format):
    values = np.array([[0, 128, 129, 257, 300, 25700, 65278, 65535]], np.uint16)
    out = decode(save(Image.fromarray(values), format), 1)[..., 0]
    assert out.tolist() == [[0, 0, 1, 1, 1, 100, 254, 255]]
    three = decode(save(Image.fromarray(values), format), 3)
    np.testing.assert_array_equal(three, np.repeat(out[..., None], 3, axis=2))


def test_big_endian_16_bit_tiff():
    values = np.array([[0, 25700, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert decode(save(image, "TIFF"), 1)[..., 0].tolist() == [[0, 100, 255]]


def test_transparent_value_of_16_bit_gray_is_white():
    values = np.array([[0, 25700]], np.uint16)
    ihdr = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0)
    rows = b"\0" + values.astype(">u2").tobytes()
    data = png(
        [(b"IHDR", ihdr), (b"tRNS", b"\0\0"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    )
    assert decode(data, 1)[..., 0].tolist() == [[255, 100]]


def tiff(bits, photometric, strip, width):
    """A little-endian TIFF of one row of unsigned gray."""
    tags = [
        (256, 3, width),
        (257, 3, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, len(strip)),
    ]
    start = 8 + len(strip) + len(strip) % 2
    head = b"II*\0" + struct.pack("<I", start) + strip + b"\0" * (len(strip) % 2)
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags
    )
    return head + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def test_12_bit_tiff_fills_the_range():
    packed = bytes([0x00, 0x0F, 0xFF])  # 0x000, 0xFFF
    assert decode(tiff(12, 1, packed, 2), 1)[..., 0].tolist() == [[0, 255]]


def test_16_bit_tiff_where_0_is_white():
    strip = np.array([0, 65535, 25700], "<u2").tobytes()
    assert decode(tiff(16, 0, strip, 3), 1)[..., 0].tolist() == [[255, 0, 155]]
    assert decode(tiff(16, 1, strip, 3), 1)[..., 0].tolist() == [[0, 255, 100]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_rejected(kind):
    error = rejected(save(Image.fromarray(np.ones((2, 2), kind)), "TIFF"))
    assert error.reason == "unreadable_image"
    assert "no known range" in error.detail


def test_one_bit_is_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert decode(save(image, "PNG"), 1)[..., 0].tolist() == [[255, 0]]


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_first_frame_of_many(format):
    frames = [Image.new("RGB", (4, 4), (value, value, value)) for value in (0, 255)]
    data = save(
        frames[0], format, save_all=True, append_images=frames[1:],
        **({"lossless": True} if format == "WEBP" else {}),
    )  # fmt: skip
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert decode(data, 3).max() == 0


def test_luma_of_colours():
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    luma = decode(save(image, "PNG"), 1)[..., 0]
    np.testing.assert_allclose(luma, [[0.299 * 255, 0.587 * 255, 0.114 * 255]], atol=1)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_rejected(format, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = save(Image.fromarray(noise), format)
    assert decode(data, 3).shape == (64, 64, 3)
    error = rejected(data[: int(len(data) * share)])
    assert error.reason == "unreadable_image"
    assert error.detail
    assert "\n" not in error.detail


def test_damaged_bytes_never_raise_anything_else():
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    outcomes = set()
    for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"):
        data = save(Image.fromarray(noise), format)
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(0, min(len(data), 300), 12):
                broken[place] = rng.integers(256)
            try:
                decode(bytes(broken), 3)
                outcomes.add("ok")
            except SampleRejected as error:
                outcomes.add(error.reason)
    assert {"ok", "unreadable_image"} <= outcomes <= {"ok", "unreadable_image", "image_too_large"}


@pytest.mark.parametrize("data", [b"", b"hello, world", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_rejected(data):
    assert rejected(data).reason == "unreadable_image"


def png(chunks):
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


@pytest.mark.parametrize("side", [13_378, 100_000])
def test_decompression_bombs_are_rejected_before_decoding(side):
    ihdr = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = png([(b"IHDR", ihdr), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")])
    assert rejected(data).reason == "image_too_large"


def test_the_limit_holds_where_another_library_lifted_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    test_decompression_bombs_are_rejected_before_decoding(13_378)


def test_images_pillow_only_warns_of_are_read():
    side = 9500  # 90 million pixels; Pillow warns from 89 million on
    image = Image.new("1", (side, side), 1)
    assert decode(save(image, "PNG"), 1).shape == (side, side, 1)


def test_no_pixels_is_unreadable():
    ihdr = struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)
    data = png([(b"IHDR", ihdr), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")])
    assert rejected(data).reason == "unreadable_image"
