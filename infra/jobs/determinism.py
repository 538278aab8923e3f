"""Same request, same bytes: torch's deterministic kernels while a shard is made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Uses deterministic kernels, where there are any, inside the block.

    On a CPU this changes nothing that was measured. On CUDA it gives up cuDNN's search for the
    fastest kernel. An operation that has no deterministic kernel warns and runs all the same.
    """
    # cuBLAS reads it once, before its first use in this process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    torch.backends.cudnn.benchmark = not enabled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
