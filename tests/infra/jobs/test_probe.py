"""The batch size is found once, fits into memory, and is remembered."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture
from infra.jobs import loaded
from infra.jobs.probe import SIZES, batch_size_for, probe_batch_size


class Costed:
    """The mixture with a clock of its own: a batch takes `fixed + row * rows` seconds."""

    def __init__(
        self,
        mixture: GaussianMixture,
        *,
        limit: int = 10**6,
        fixed: float = 0.0,
        row: float = 1.0,
    ) -> None:
        self.schedule, self.device = mixture.schedule, mixture.device
        self.sample_shape, self.class_names = mixture.sample_shape, mixture.class_names
        self.condition = mixture.condition
        self.fingerprint = "costed"
        self.limit, self.fixed, self.row, self.now = limit, fixed, row, 0.0
        self.sizes: list[int] = []

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        if len(x_t) > self.limit:
            raise torch.OutOfMemoryError
        self.sizes.append(len(x_t))
        self.now += self.fixed + self.row * len(x_t)
        return x_t


def test_the_largest_size_that_fits_is_never_exceeded(mixture: GaussianMixture) -> None:
    backbone: Any = Costed(mixture, limit=20)
    assert probe_batch_size(backbone) <= 16
    assert max(backbone.sizes) <= 16


@pytest.mark.parametrize(
    ("fixed", "row", "chosen", "largest"),
    [(0.0, 1.0, SIZES[0], SIZES[2]), (1.0, 0.0, SIZES[-1], SIZES[-1])],
    ids=["rows_that_cost_the_same", "rows_that_are_free"],
)
def test_doubling_ends_where_it_brings_nothing(
    mixture: GaussianMixture,
    monkeypatch: pytest.MonkeyPatch,
    fixed: float,
    row: float,
    chosen: int,
    largest: int,
) -> None:
    backbone: Any = Costed(mixture, fixed=fixed, row=row)
    monkeypatch.setattr(loaded, "time", SimpleNamespace(perf_counter=lambda: backbone.now))
    assert probe_batch_size(backbone) == chosen
    assert max(backbone.sizes) == largest


def test_what_was_found_is_remembered(mixture: GaussianMixture, tmp_path: Path) -> None:
    memory = tmp_path / "cache" / "batch_sizes.json"
    first: Any = Costed(mixture, limit=4)
    found = batch_size_for(first, 1, memory)
    again: Any = Costed(mixture, limit=64)
    assert batch_size_for(again, 1, memory) == found
    assert again.sizes == []
    other: Any = Costed(mixture, limit=4)
    other.fingerprint = "another network"
    batch_size_for(other, 1, memory)
    assert other.sizes != []


@pytest.mark.parametrize("text", ["", "not json", '{"a": "b"}'])
def test_a_damaged_memory_is_written_anew(
    mixture: GaussianMixture, tmp_path: Path, text: str
) -> None:
    memory = tmp_path / "batch_sizes.json"
    memory.write_text(text)
    backbone: Any = Costed(mixture, limit=4)
    assert batch_size_for(backbone, 1, memory) in SIZES
    again: Any = Costed(mixture)
    batch_size_for(again, 1, memory)
    assert again.sizes == []
