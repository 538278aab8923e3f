"""Stored images as data URIs. Knows nothing of why they are shown."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image

from generators.registry import JsonValue
from infra.report.wording import NOTHING
from infra.storage.reader import ShardReader

EMBED_SIDE: Final = 192
"""Larger images are scaled down to this side for the page."""

PIXELATED_BELOW: Final = 64
"""Images of smaller sides are enlarged with their pixels visible."""

MEDIA_TYPES: Final[Mapping[str, str]] = {"png": "image/png", "jpg": "image/jpeg"}

SHORT_WORDS: Final[Mapping[str, str]] = {"probability": "prob.", "similarity": "sim."}

Row = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image as the page shows it.

    Attributes:
        uri: `data:` URI, empty where there is no image.
        pixelated: whether it is enlarged with its pixels visible.
        alternative: text for those who do not see it.
        level: image-guidance percent; None for a real image.
        scores: (short name, value) of each judge's score.
        status: `real`, `ok`, `filtered` or `failed`.
        reason: reason code, empty where it is accepted.
        class_name: what it should show.
    """

    uri: str
    pixelated: bool
    alternative: str
    level: int | None
    scores: tuple[tuple[str, str], ...]
    status: str
    reason: str
    class_name: str


def real_picture(reader: ShardReader, row: Row) -> Picture:
    """A real image from its row of the real manifest."""
    uri, pixelated = _embed(reader, row)
    return Picture(
        uri=uri,
        pixelated=pixelated,
        alternative=f"Real image of class {row['class_name']}",
        level=None,
        scores=(),
        status="real",
        reason="",
        class_name=row["class_name"],
    )


def made_picture(reader: ShardReader, row: Row, columns: tuple[str, ...]) -> Picture:
    """A synthetic image from its row of the manifest; `columns` hold its scores."""
    uri, pixelated = _embed(reader, row) if row["member"] else ("", False)
    fate = "accepted" if row["status"] == "ok" else f"{row['status']}: {row['reason']}"
    level = row["image_guidance"]
    return Picture(
        uri=uri,
        pixelated=pixelated,
        alternative=f"Class {row['class_name']} at image guidance {level} %, {fate}",
        level=level,
        scores=tuple((short_name(name, columns), _score(row[name])) for name in columns),
        status=row["status"],
        reason=row["reason"],
        class_name=row["class_name"],
    )


def short_name(column: str, columns: tuple[str, ...]) -> str:
    """Last word of a score's column, short, or all of it where two columns end alike."""
    words = [name.removeprefix("score_").split("_") for name in columns]
    own = column.removeprefix("score_").split("_")
    alike = sum(other[-1] == own[-1] for other in words) > 1
    return " ".join(own) if alike else SHORT_WORDS.get(own[-1], own[-1])


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}".replace("-", "−")


def _embed(reader: ShardReader, row: Row) -> tuple[str, bool]:
    """Data URI of a stored image, small ones byte by byte, and whether its pixels shall show."""
    data = reader.read(row["shard"], row["offset"], row["size"])
    media_type = MEDIA_TYPES[row["member"].rpartition(".")[2]]
    with Image.open(io.BytesIO(data)) as image:
        side = max(image.size)
        if side > EMBED_SIDE:
            image.thumbnail((EMBED_SIDE, EMBED_SIDE), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
            data, media_type = stream.getvalue(), "image/jpeg"
    text = base64.b64encode(data).decode("ascii")
    return f"data:{media_type};base64,{text}", side < PIXELATED_BELOW
