"""Image bytes to 8-bit pixels and back. Knows files, no data sets.

Whatever the file holds (palette, alpha, CMYK, 16 bits, a rotated photo), pixels come out as a
viewer shows them on white paper; what cannot be read ends as a rejected sample, never as an
exception of the image library.
"""

import io
import warnings
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from generators.errors import SampleRejected

Pixels = NDArray[np.uint8]

MAX_PIXELS: Final = 178_956_970
"""Width times height that is still decoded; where Pillow, too, suspects a decompression bomb."""

# Pillow opens more, some of it by running other programs (EPS).
FORMATS: Final = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "PPM",
    "ICO",
)

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what undoes it."""


def decode(data: bytes, channels: Literal[1, 3]) -> Pixels:
    """Decodes the first frame of an image file.

    EXIF orientation is applied, transparency laid on white, 16-bit gray scaled by 1/257.

    Args:
        data: a file's bytes.
        channels: 1 for grayscale (ITU-R 601 luma of coloured images), 3 for RGB.

    Returns:
        uint8 (H, W, channels).

    Raises:
        SampleRejected: `unreadable_image` or `image_too_large`.
    """
    # Pillow warns of odd metadata and of big images; both are decided here, by rows and reasons.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _open(data)
            image = image.convert("L" if channels == 1 else "RGB")
            pixels = np.array(image, dtype=np.uint8)
        except SampleRejected:
            raise
        except Image.DecompressionBombError as error:
            raise SampleRejected("image_too_large", str(error)) from error
        except MemoryError:
            raise  # a matter of the machine, not of the image
        except Exception as error:
            # A damaged file makes the decoders raise nearly anything; a row is all it costs.
            detail = " ".join(f"{type(error).__name__}: {error}".split())
            raise SampleRejected("unreadable_image", detail) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _open(data: bytes) -> Image.Image:
    """The first frame, upright, opaque, with 8 bits a channel."""
    if not data:
        raise SampleRejected("unreadable_image", "empty file")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        start = data[:8].hex(" ")
        detail = f"no image format that is known; the file starts with {start}"
        raise SampleRejected("unreadable_image", detail) from error
    width, height = image.size
    if width < 1 or height < 1:
        raise SampleRejected("unreadable_image", f"no pixels: {width} x {height}")
    if width * height > MAX_PIXELS:
        detail = f"{width} x {height} pixels, more than {MAX_PIXELS}"
        raise SampleRejected("image_too_large", detail)
    image.load()
    # After loading: TIFF files are turned upright by Pillow itself and then have no orientation.
    orientation = _orientation(image)
    image = _opaque(_eight_bits(image))
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where the metadata is damaged: the pixels are not."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grayscale of 16 bits as 8 bits; other modes as they are."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    maximum, inverted = 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        maximum = 2**bits - 1
        # Pillow turns 8-bit TIFF files where 0 is white, but not those of 16 bits.
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    values = np.asarray(image)
    known = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not known or values.min() < 0 or values.max() > maximum:
        detail = f"pixels of mode {image.mode} in a {image.format} file have no known range"
        raise SampleRejected("unreadable_image", detail)
    scaled = np.rint(values.astype(np.float64) * (255 / maximum))
    if inverted:
        scaled = 255 - scaled
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        scaled[values == transparent] = 255
    return Image.fromarray(scaled.astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """Transparent pixels on white; palettes resolved."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB") if image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV") else image


def resize(pixels: Pixels, size: int) -> Pixels:
    """Scales the shortest side to `size` and cuts out the centre.

    Scaling down averages over all source pixels (Lanczos), scaling up is bicubic. An image of that
    size already comes back as it is, and one with that shortest side is only cut.

    Args:
        pixels: uint8 (H, W, C), C 1 or 3.
        size: >= 1.

    Returns:
        uint8 (size, size, C).
    """
    height, width, channels = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if side == size:
        return pixels[top : top + side, left : left + side]
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    kernel = Image.Resampling.LANCZOS if side > size else Image.Resampling.BICUBIC
    # A box keeps long, thin images from growing huge before the cut; at its edges the filter
    # still sees what lies outside, so this equals scaling first.
    square = (left, top, left + side, top + side)
    scaled = np.array(image.resize((size, size), kernel, box=square), dtype=np.uint8)
    return scaled.reshape(size, size, channels)


def encode_image(pixels: Pixels, format: Literal["png", "jpeg"], quality: int) -> bytes:
    """Encodes pixels; the same pixels give the same bytes, without metadata.

    Args:
        pixels: uint8 (H, W, C), C 1 or 3.
        format: PNG loses nothing.
        quality: of JPEG, 1..100; PNG has none.
    """
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] in (1, 3)
    image = Image.fromarray(
        np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    )
    stream = io.BytesIO()
    if format == "png":
        image.save(stream, "PNG", compress_level=6)
    else:
        assert 1 <= quality <= 100
        image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()
