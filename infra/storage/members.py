"""Samples of a WebDataset tar, and the rules without which stock readers lose data.

Each rule was found by running a reader of 2026-11 (webdataset 1.0.2, datasets 5.2, timm 1.0.31,
ray.data 2.60) on a tar that breaks it:

- a dot in a key: all of them cut the key there, and samples melt together;
- a key that begins with two underscores: `datasets` takes it for a private file and skips it;
- two image formats in one tar: `datasets` takes the columns of the first samples, and gives the
  images of the other format as None;
- gray and colour images in one tar: `ray.data` stops, its blocks hold one number of dimensions;
- an integer among floats in the `.json`: `datasets` takes the type of the first samples and cuts
  the others down to it (1.5 becomes 1), or stops where it cannot; a missing field becomes None;
- an image that cannot be decoded: timm logs a warning and goes on with one sample fewer;
- a tar without samples: `datasets` stops. Such a shard has no tar.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from PIL import Image, UnidentifiedImageError

from generators.errors import DataError
from generators.registry import JsonValue

Extension = Literal["png", "jpg"]
Scalar = str | int | float | bool

KEY: Final = re.compile(r"(?!__)[A-Za-z0-9_-]+")
MAX_KEY_LENGTH: Final = 95  # the ustar header holds 100 characters, `.json` included
IMAGE_FORMATS: Final[Mapping[str, str]] = {"png": "PNG", "jpg": "JPEG"}
IMAGE_MODES: Final = ("L", "RGB")
TYPE_NAMES: Final = {str: "string", int: "int64", float: "float64", bool: "bool"}
MAX_INTEGER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMember:
    """One sample of a shard: an encoded image, its label and what is known of it.

    Attributes:
        key: `[A-Za-z0-9_-]+`, at most 95 characters, not beginning with `__`; unique in the shard.
        image: the file's bytes, grayscale or RGB, 8 bits a channel.
        extension: the format of `image`.
        label: class index, >= 0.
        info: the `.json` member; the same fields with the same types in all members of a shard.
    """

    key: str
    image: bytes
    extension: Extension
    label: int
    info: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What all samples of a shard have in common; equal for all shards that are read together.

    Attributes:
        extension: of the images, `png` or `jpg`.
        mode: Pillow's name of the pixel format, `L` or `RGB`.
        info: field of the `.json` member to type: `string`, `int64`, `float64` or `bool`.
    """

    extension: str
    mode: str
    info: Mapping[str, str]

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return asdict(self)


def check_key(key: str, what: str) -> str:
    """Returns a key that is safe as a file name in a tar.

    Raises:
        DataError: other characters, or too long; names `what`.
    """
    if not KEY.fullmatch(key) or len(key) > MAX_KEY_LENGTH:
        allowed = (
            f"expected 1 to {MAX_KEY_LENGTH} characters of A-Z a-z 0-9 _ -, not beginning with __"
        )
        raise DataError(f"{what}: {key!r} is not allowed; {allowed}")
    return key


def check_members(shard: str, members: Sequence[ShardMember]) -> Layout | None:
    """The common layout of samples that are sorted by key; None if there are none.

    Raises:
        DataError: a sample that stock readers would lose, mix up or stop at; names it and why.
    """
    layout: Layout | None = None
    previous = ""
    for member in members:
        where = f"shard {shard}, sample {member.key}"
        check_key(member.key, f"shard {shard}, key of a sample")
        if member.key == previous:
            raise DataError(f"{where}: the key occurs twice")
        if isinstance(member.label, bool) or not 0 <= member.label <= MAX_INTEGER:
            raise DataError(f"{where}: label {member.label!r}; expected a class index >= 0")
        found = Layout(
            extension=member.extension,
            mode=_image_mode(where, member),
            info=_info_types(where, member.info),
        )
        layout = layout or found
        if found != layout:
            raise DataError(
                f"{where}: all samples must be like the first; {_differ(layout, found)}"
            )
        previous = member.key
    return layout


def common_layout(layouts: Iterable[tuple[str, Layout | None]]) -> Layout | None:
    """The layout that named shards share; shards without samples have none.

    Raises:
        DataError: two shards differ, so that no reader can take them together.
    """
    first: tuple[str, Layout] | None = None
    for shard, layout in layouts:
        if layout is None:
            continue
        first = first or (shard, layout)
        if layout != first[1]:
            raise DataError(f"shard {shard} differs from {first[0]}: {_differ(first[1], layout)}")
    return first[1] if first else None


def _image_mode(where: str, member: ShardMember) -> str:
    """Pillow's mode of the image, from its header."""
    if member.extension not in IMAGE_FORMATS:
        raise DataError(f"{where}: extension {member.extension!r}; expected 'png' or 'jpg'")
    expected = IMAGE_FORMATS[member.extension]
    try:
        with Image.open(io.BytesIO(member.image), formats=[expected]) as image:
            mode = image.mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: the image is not a {expected} file") from error
    if mode not in IMAGE_MODES:
        raise DataError(f"{where}: image of mode {mode!r}; expected one of {IMAGE_MODES}")
    return mode


def _info_types(where: str, info: Mapping[str, Scalar]) -> dict[str, str]:
    """Field to type name, sorted by field."""
    if not info:
        raise DataError(f"{where}: the info has no fields; at least one is needed")
    for name, value in info.items():
        allowed = type(value) in TYPE_NAMES
        if allowed and isinstance(value, float):
            allowed = value - value == 0  # neither infinite nor NaN, which JSON does not have
        if allowed and isinstance(value, int):
            allowed = -MAX_INTEGER <= value <= MAX_INTEGER
        if not allowed or not isinstance(name, str):
            raise DataError(
                f"{where}: info {name!r} is {value!r}; expected a string, a 64-bit integer, "
                "a finite float or a bool"
            )
    return {name: TYPE_NAMES[type(info[name])] for name in sorted(info)}


def _differ(first: Layout, other: Layout) -> str:
    """Where two layouts differ, in words."""
    if first.extension != other.extension:
        return f"extension {other.extension!r}, there {first.extension!r}"
    if first.mode != other.mode:
        return f"image mode {other.mode!r}, there {first.mode!r}"
    names = sorted(
        name
        for name in {**first.info, **other.info}
        if first.info.get(name) != other.info.get(name)
    )
    return ", ".join(
        f"info {name!r} is {other.info.get(name, 'missing')}, there "
        f"{first.info.get(name, 'missing')}"
        for name in names
    )
