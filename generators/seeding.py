"""Lends a seed to code that knows the global random state only: layer initialisers, dropout."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """The global random state is this seed's in the block, and untouched after it.

    Args:
        seed: of the CPU, and of the device where it is a CUDA one.
        device: where random numbers are drawn.
    """
    where = torch.device(device)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
