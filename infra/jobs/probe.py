"""Finds the batch size of a network on a device, once, and remembers it.

Larger batches are faster up to a point and need more memory. Sizes are doubled until they bring
less than 5 %, or memory ends; the smallest size within 5 % of the best rate is taken.
"""

import json
from pathlib import Path
from typing import Final

import torch

from generators.backbones.base import Backbone
from generators.registry import content_hash
from infra.jobs.loaded import time_rows
from infra.machine import cpu_name
from infra.storage.atomic import write_json

SIZES: Final = (2, 4, 8, 16, 32, 64, 128, 256)
GAIN: Final = 1.05
USABLE_MEMORY: Final = 0.8
"""Of a GPU; the decoder and the caches need the rest."""


def batch_size_for(backbone: Backbone, threads: int, memory: Path) -> int:
    """The remembered size, or a new one that is remembered from here on.

    Args:
        backbone: the network on its device.
        threads: CPU threads of the worker.
        memory: file of what was found before; a missing or damaged one is written anew.
    """
    device = backbone.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    facts = [name, threads, backbone.fingerprint, list(backbone.sample_shape)]
    key = content_hash(facts)
    known = _read(memory)
    if key not in known:
        known[key] = probe_batch_size(backbone)
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, {**_read(memory), key: known[key]})
    return known[key]


def probe_batch_size(backbone: Backbone) -> int:
    """Tries sizes out; 2 is the least, the two rows of guidance. Waits for the device."""
    rates: dict[int, float] = {}
    for size in SIZES:
        try:
            rates[size] = 1 / time_rows(backbone, size, seconds=0.0)
        except torch.OutOfMemoryError:
            break
        if _memory_used(backbone.device) > USABLE_MEMORY:
            rates.pop(size)
            break
        earlier = [rate for known, rate in rates.items() if known <= size // 4]
        if earlier and rates[size] < GAIN * max(earlier):
            break
    best = max(rates.values(), default=0.0)
    return min((size for size, rate in rates.items() if rate * GAIN >= best), default=SIZES[0])


def _memory_used(device: torch.device) -> float:
    """Highest share of a GPU's memory so far; 0 elsewhere, where memory is the host's."""
    if device.type != "cuda":
        return 0.0
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_allocated(device) / total


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: size for key, size in found.items() if isinstance(size, int) and size >= 1}
