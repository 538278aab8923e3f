"""Small real samples for the storage tests."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from infra.storage.shards import ShardMember


def encoded(seed: int, mode: str = "L", size: int = 8, image_format: str = "PNG") -> bytes:
    shape = (size, size) if mode in ("L", "I;16") else (size, size, len(mode))
    dtype = np.uint16 if mode == "I;16" else np.uint8
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format)
    return stream.getvalue()


def member(index: int, **changes: object) -> ShardMember:
    values: dict[str, object] = {
        "key": f"sample-{index:03d}_x",
        "image": encoded(index),
        "extension": "png",
        "label": index % 10,
        "info": {
            "image_guidance": 20,
            "prompt": f"a nün {index}",
            "score": index / 2,
            "hard": True,
        },
    }
    return ShardMember(**{**values, **changes})  # type: ignore[arg-type]


def members(count: int, first: int = 0, **changes: object) -> list[ShardMember]:
    return [member(index, **changes) for index in range(first, first + count)]


def rows_of(samples: list[ShardMember], failed: tuple[str, ...] = ()) -> pa.Table:
    keys = [sample.key for sample in samples] + list(failed)
    labels = [sample.label for sample in samples] + [0] * len(failed)
    status = ["ok"] * len(samples) + ["failed"] * len(failed)
    return pa.table({"key": keys, "label": pa.array(labels, pa.int64()), "status": status})
