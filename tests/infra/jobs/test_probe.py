"""The batch size is found once, fits into memory, and is remembered."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture
from infra.jobs.probe import SIZES, batch_size_for, probe_batch_size


class Costed:
    """The mixture with a clock: a batch costs `fixed + row * rows` times the least cost."""

    def __init__(self, mixture: GaussianMixture, *, limit: int = 10**6, burn: int = 0) -> None:
        self.schedule, self.device = mixture.schedule, mixture.device
        self.sample_shape, self.class_names = mixture.sample_shape, mixture.class_names
        self.condition = mixture.condition
        self.fingerprint = "costed"
        self.limit, self.burn = limit, burn
        self.sizes: list[int] = []

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        if len(x_t) > self.limit:
            raise torch.OutOfMemoryError
        self.sizes.append(len(x_t))
        work = torch.rand(len(x_t), self.burn, self.burn) if self.burn else None
        return x_t if work is None else x_t + (work @ work).mean()


def test_the_largest_size_that_fits_is_never_exceeded(mixture: GaussianMixture) -> None:
    backbone: Any = Costed(mixture, limit=20)
    assert probe_batch_size(backbone) <= 16
    assert max(backbone.sizes) <= 16


def test_doubling_ends_where_it_brings_nothing(mixture: GaussianMixture) -> None:
    """Rows that each cost the same make large batches useless."""
    torch.set_num_threads(1)
    backbone: Any = Costed(mixture, burn=256)
    chosen = probe_batch_size(backbone)
    assert chosen <= 8
    assert max(backbone.sizes) < SIZES[-1]


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
