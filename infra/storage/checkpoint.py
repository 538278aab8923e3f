"""States of trainings on disk: tensors and plain values only, no code."""

from collections.abc import Mapping
from pickle import UnpicklingError  # what torch raises for a file that is not its own
from typing import Any

import torch

from generators.errors import CheckpointError
from generators.places import Place, StoreError, opened
from infra.storage.atomic import replacing


def save_checkpoint(path: Place, state: Mapping[str, Any]) -> None:
    """Writes a state; the file appears under its name only when complete."""
    with replacing(path) as stream:
        torch.save(dict(state), stream)


def load_checkpoint(path: Place) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, onto the CPU.

    Raises:
        CheckpointError: missing or damaged.
        StoreError: an object store does not answer.
    """
    try:
        with opened(path) as stream:
            state: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"no training state {path}") from error
    except (EOFError, OSError, RuntimeError, ValueError, UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a readable training state: {error}") from error
    return state
