"""Stored images by row: the table a classifier trains on. Reads tars by byte range."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from curriculum.data.decode import decode, resize
from curriculum.loader import ImageTable, TensorImages
from curriculum.mixture import Indices, Rows
from curriculum.schedules.base import REAL
from generators.backbones.base import Backbone
from generators.places import Place, is_remote
from infra.storage.shards import ShardReader

MEMORY_BYTES = 512 * 2**20
"""Decoded images up to this size are kept in memory; beyond it they are read batch by batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """What decoded images look like: channels 1 or 3, square of `image_size` pixels."""

    channels: Literal[1, 3]
    image_size: int


def form_of(backbone: Backbone) -> PixelFormat:
    """Images as a network wants them."""
    channels, height, _ = backbone.pixel_shape
    return PixelFormat(channels=1 if channels == 1 else 3, image_size=height)


def read_pixels(reader: ShardReader, row: dict[str, Any], form: PixelFormat) -> Tensor:
    """One stored image as uint8 (C, H, W)."""
    return decoded(reader.read(row["shard"], row["offset"], row["size"]), form)


def decoded(data: bytes, form: PixelFormat) -> Tensor:
    """An image file as uint8 (C, H, W); raises SampleRejected where it is none."""
    pixels = resize(decode(data, form.channels), form.image_size)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous()


class StoredImages:
    """Real and synthetic images behind one index; nothing is decoded before it is read.

    Args:
        real: rows of the real manifest that are used, all readable.
        generated: rows of the manifest that are used, or None.
        folders: of the real and of the synthetic shards.
        form: what images are decoded to.
        hard_keys: keys of the hard real images.
        held_out: which of the generated rows are not trained on; None: none is.
    """

    def __init__(
        self,
        real: pa.Table,
        generated: pa.Table | None,
        folders: tuple[Place, Place],
        form: PixelFormat,
        hard_keys: frozenset[str],
        held_out: NDArray[np.bool_] | None = None,
    ) -> None:
        tables = [real] if generated is None else [real, generated]
        columns = ["shard", "offset", "size", "label"]
        self._places = [row for table in tables for row in table.select(columns).to_pylist()]
        self._readers = tuple(
            ShardReader(folder, sha256=_hashes(table) if is_remote(folder) else {})
            for folder, table in zip(folders, [*tables, None], strict=False)
        )
        self._form = form
        levels = [REAL] * real.num_rows
        if generated is not None:
            levels += generated.column("image_guidance").to_pylist()
        is_real = np.arange(len(levels)) < real.num_rows
        is_hard = np.array([key in hard_keys for key in real.column("key").to_pylist()], dtype=bool)
        synthetic = np.zeros(len(levels) - real.num_rows, dtype=bool)
        self._rows = Rows(
            labels=np.array([place["label"] for place in self._places], dtype=np.int64),
            levels=np.array(levels, dtype=np.int64),
            is_real=is_real,
            is_tail=np.concatenate([is_hard, synthetic]),
            is_held_out=np.concatenate(
                [np.zeros(real.num_rows, dtype=bool), synthetic if held_out is None else held_out]
            ),
        )

    @property
    def rows(self) -> Rows:
        """What is known of each image without reading it."""
        return self._rows

    def read(self, indices: Indices) -> Tensor:
        """uint8 (n, C, H, W)."""
        return torch.stack(
            [
                read_pixels(
                    self._readers[0 if self._rows.is_real[i] else 1], self._places[i], self._form
                )
                for i in indices.tolist()
            ]
        )

    def in_memory(self) -> ImageTable:
        """Itself, or a decoded copy where that takes little memory."""
        for reader, chosen in zip(
            self._readers, (self._rows.is_real, ~self._rows.is_real), strict=True
        ):
            reader.fetch(self._places[i]["shard"] for i in np.flatnonzero(chosen))
        size = len(self._rows) * self._form.channels * self._form.image_size**2
        return TensorImages.load(self) if size <= MEMORY_BYTES else self


def _hashes(rows: pa.Table | None) -> dict[str, str]:
    """Shard to sha256 of its tar, as rows of a manifest say it; nothing where they do not."""
    if rows is None or "shard_sha256" not in rows.column_names:
        return {}
    pairs = rows.group_by(["shard", "shard_sha256"]).aggregate([])
    return dict(zip(pairs["shard"].to_pylist(), pairs["shard_sha256"].to_pylist(), strict=True))
