"""Host to device without waiting: the one place where small tensors are handed to a GPU."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; on CUDA from pinned memory, so that the host does not wait.

    A plain copy from pageable memory first waits for everything that is queued on the device.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def randn(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU: the same numbers on every device."""
    return to_device(torch.randn(shape, generator=generator), device)
