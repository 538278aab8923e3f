"""From row numbers to batches of images. Knows nothing of storage, losses or curricula.

The order of the batches is the order of the rows given, whatever the number of worker processes.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from curriculum.mixture import Indices, Rows
from generators.errors import DataError

Batch = tuple[Tensor, Tensor, Tensor]
"""Images (B, C, H, W) uint8, labels (B,) int64 and row numbers (B,) int64. Where a loader reads a
part of every batch only, the images are that part's, labels and numbers the whole batch's."""

PREFETCH_BATCHES = 4


class ImageTable(Protocol):
    """Images that can be read by row number. Pickles, so that worker processes can have it."""

    @property
    def rows(self) -> Rows:
        """What is known of each image without reading it."""

    def read(self, indices: Indices) -> Tensor:
        """(n, C, H, W) uint8 images of these rows, in this order; rows may repeat."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorImages:
    """An image table in memory: for small data, and as a cache of decoded images.

    Attributes:
        images: (N, C, H, W) uint8.
        rows: N of them.
    """

    images: Tensor
    rows: Rows

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(f"images are uint8 tensors (N, C, H, W), not {found}")
        if len(self.images) != len(self.rows):
            raise DataError(f"{len(self.images)} images, but {len(self.rows)} rows")

    @classmethod
    def load(cls, table: ImageTable, batch_size: int = 1024) -> "TensorImages":
        """Reads a whole table into memory."""
        numbers = np.arange(len(table.rows))
        parts = [table.read(part) for part in _split(numbers, batch_size)]
        return cls(images=torch.cat(parts), rows=table.rows)

    def read(self, indices: Indices) -> Tensor:
        """Copies of these rows."""
        return self.images[torch.from_numpy(indices)]


class EpochLoader:
    """Reads batches of an image table, ahead of time if it has worker processes.

    Args:
        table: where images come from.
        batch_size: images a batch.
        num_workers: reading processes, kept from epoch to epoch; 0 reads in this process.
        drop_last: whether an incomplete last batch is left out.
        pin_memory: whether batches are put where a GPU can fetch them.
        part: the places of every batch whose images are read.
    """

    def __init__(
        self,
        table: ImageTable,
        batch_size: int,
        *,
        num_workers: int = 0,
        drop_last: bool = True,
        pin_memory: bool = False,
        part: slice = slice(None),
    ) -> None:
        self._batch_size, self._drop_last = batch_size, drop_last
        self._plan = _Plan()
        self._loader: DataLoader[Any] = DataLoader(
            _BatchedRows(table, part),
            batch_sampler=self._plan,
            collate_fn=_as_is,
            num_workers=num_workers,
            prefetch_factor=PREFETCH_BATCHES if num_workers else None,
            persistent_workers=num_workers > 0,
            worker_init_fn=_forget_exit_calls,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # or it would draw from the global one
        )

    def batches(self, indices: Indices) -> Iterator[Batch]:
        """Batches of these rows, in this order."""
        parts = _split(indices, self._batch_size)
        if self._drop_last and parts and len(parts[-1]) < self._batch_size:
            parts.pop()
        # Batches are planned in this process: kept workers see every new plan.
        self._plan.batches = [part.tolist() for part in parts]
        return iter(self._loader)


class _Plan:
    """A batch sampler that deals out a list made beforehand."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _BatchedRows(Dataset[Batch]):
    """Lets DataLoader read a batch in one call."""

    def __init__(self, table: ImageTable, part: slice) -> None:
        self._table, self._part = table, part

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        numbers = np.asarray(indices, dtype=np.int64)
        labels = torch.from_numpy(self._table.rows.labels[numbers])
        return self._table.read(numbers[self._part]), labels, torch.from_numpy(numbers)


def _forget_exit_calls(worker: int) -> None:
    """Of the process that a worker was forked from: Prefect's raise in it.

    The worker would end with an error, which torch raises in the main thread of the parent.
    """
    threading._threading_atexits.clear()  # type: ignore[attr-defined]


def _as_is(batch: Any) -> Any:
    return batch


def _split(indices: Indices, size: int) -> list[Indices]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]
