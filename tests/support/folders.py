"""Checkpoint folders that are changed, and how a changed one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from generators.backbones.stable_diffusion import StableDiffusion
from generators.errors import CheckpointError, ConfigError

UNET = "unet/diffusion_pytorch_model.safetensors"


def edit(path: Path, **changes: Any) -> None:
    """Changes entries of a JSON file; `absent` removes one."""
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def refused(folder: Path | str, *parts: str, **parameters: Any) -> None:
    """By `check` and, with the same words, by `load`."""
    spec = StableDiffusion(path=str(folder), **parameters)
    for act in (spec.check, lambda: spec.load("cpu")):
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            act()
        for part in parts:
            assert part in str(caught.value)
