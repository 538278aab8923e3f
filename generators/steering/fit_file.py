"""What a guidance fit leaves: tensors, and what they belong to, in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError, ConfigError
from generators.models import Models
from generators.registry import JsonValue, canonical_json

METADATA_KEY = "discl_guidance_fit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitFile:
    """A fit, read.

    Attributes:
        tensors: on the network's device.
        details: plain data, e.g. the classes and the settings of the fit.
    """

    tensors: Mapping[str, Tensor]
    details: Mapping[str, JsonValue]

    def state(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, without the prefix: a module's state."""
        begun = [name for name in self.tensors if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensors[name] for name in begun}


def save_fit(
    path: Path,
    method: str,
    models: Models,
    tensors: Mapping[str, Tensor],
    details: Mapping[str, JsonValue],
) -> None:
    """Writes one file, under its name only when complete.

    Args:
        path: of the file.
        method: the guidance fit.
        models: whose network it was made for.
        tensors: any.
        details: plain JSON.
    """
    from safetensors.torch import save

    about = {"method": method, "network": models.backbone.fingerprint, "details": dict(details)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, metadata={METADATA_KEY: canonical_json(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def open_fit(models: Models, path: str, method: str, at: str) -> FitFile:
    """Reads a fit of this network; once.

    Args:
        models: of the network that is guided; it keeps the fit.
        path: of the file, or a URL.
        method: the guidance fit that must have made it.
        at: the config field to name in errors.

    Raises:
        CheckpointError: no such file, or not a fit.
        ConfigError: a fit of another method, or for another network.
    """
    return models.keep(("fit", path, method), lambda: _read(models, path, method, at))


def _read(models: Models, path: str, method: str, at: str) -> FitFile:
    from safetensors import SafetensorError, safe_open

    file = local_checkpoint(path, at)
    if not file.is_file():
        raise CheckpointError(f"{at}: no file {path}; discl fit-guidance {method} makes it")
    try:
        with safe_open(file, framework="pt", device=str(models.backbone.device)) as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        about = json.loads(metadata[METADATA_KEY])
        made_by, network, details = about["method"], about["network"], dict(about["details"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a file of discl fit-guidance: {error!r}") from error
    if made_by != method:
        raise ConfigError(at, path, f"a file of discl fit-guidance {method}; this is of {made_by}")
    if network != models.backbone.fingerprint:
        allowed = f"a fit for this network ({models.backbone.fingerprint}); it is for {network}"
        raise ConfigError(at, path, allowed)
    return FitFile(tensors=tensors, details=details)
