"""Loads a verified checkpoint into diffusers' own pipeline, on its device. Knows no family.

Components are loaded one by one, because only then their loaders say which weights did not fit;
diffusers and transformers themselves fill such gaps with random numbers and a warning.
"""

import copy
import dataclasses
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch

from generators.errors import CheckpointError
from generators.latent.checkpoint import Checkpoint, Component
from generators.latent.runtime import Runtime, place

SPREAD = frozenset({"unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"})
"""Components that a device map divides."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenPipeline:
    """A pipeline that is ready to run.

    Attributes:
        pipeline: diffusers'.
        device: where it computes, also when its weights are elsewhere (offloading).
        dtype: of its denoiser and text encoders.
    """

    pipeline: Any
    device: torch.device
    dtype: torch.dtype


class PipelineNetwork:
    """What the networks of all latent families have in common.

    Args:
        opened: the pipeline that the network is a part of.
    """

    def __init__(self, opened: OpenPipeline) -> None:
        self._opened = opened

    @property
    def _pipeline(self) -> Any:
        return self._opened.pipeline

    @property
    def denoiser(self) -> torch.nn.Module:
        """The module that denoises."""
        found: torch.nn.Module = getattr(self._pipeline, self._denoiser_name)
        return found

    @property
    def _denoiser_name(self) -> str:
        return "unet" if hasattr(self._pipeline, "unet") else "transformer"

    def with_denoiser(self, module: torch.nn.Module) -> Self:
        """The same network, denoising with another module; shares everything else."""
        pipeline, other = copy.copy(self._pipeline), copy.copy(self)
        setattr(pipeline, self._denoiser_name, module)
        other._opened = dataclasses.replace(self._opened, pipeline=pipeline)
        return other


def no_adapters(pipeline: Any) -> None:
    """Leaves the pipeline as it is in the checkpoint."""


def open_pipeline(
    checkpoint: Checkpoint,
    runtime: Runtime,
    device: torch.device,
    adapt: Callable[[Any], None] = no_adapters,
) -> OpenPipeline:
    """Loads all components, applies adapters and brings the pipeline onto its device.

    Args:
        checkpoint: verified.
        runtime: options; checked against the device first.
        device: where it computes.
        adapt: changes the loaded pipeline (LoRA, textual inversion, ...) while it is still in
            memory of the host, before it is placed or compiled.

    Raises:
        ConfigError: options that cannot work together or on this device.
        CheckpointError: weights that do not fit their config, or a config its class does not take.
    """
    runtime.check_device(device)
    dtype = runtime.torch_dtype(device)
    mapped = SPREAD & set(checkpoint.components) if runtime.device_map != "none" else frozenset()
    with _quiet():
        parts = {
            name: load_component(
                part, _dtype_of(checkpoint, name, runtime, dtype), balanced=name in mapped
            )
            for name, part in checkpoint.components.items()
        }
        pipeline = _assemble(checkpoint, parts)
        pipeline.set_progress_bar_config(disable=True)
        adapt(pipeline)
        place(pipeline, runtime, device, frozenset(mapped))
    return OpenPipeline(pipeline=pipeline, device=device, dtype=dtype)


def _dtype_of(
    checkpoint: Checkpoint, name: str, runtime: Runtime, dtype: torch.dtype
) -> torch.dtype:
    """Float32 for an autoencoder whose checkpoint says that it overflows in float16.

    And for one that is offloaded layer by layer: its data type cannot be changed later.
    """
    if name != "vae" or dtype != torch.float16:
        return dtype
    overflows = checkpoint.config(name).get("force_upcast") is True
    return torch.float32 if overflows or runtime.offload == "sequential" else dtype


def _assemble(checkpoint: Checkpoint, parts: dict[str, Any]) -> Any:
    """The pipeline around loaded components, with the settings of model_index.json."""
    family = checkpoint.family
    absent = (*family.optional, *family.left_out)
    empty = {name: None for name in absent if name not in parts}
    cls = getattr(importlib.import_module("diffusers"), family.pipeline)
    try:
        with warnings.catch_warnings():
            # It repairs configs of the first releases and asks for better files on the hub.
            warnings.filterwarnings("ignore", "The configuration file of", FutureWarning)
            return cls.from_pretrained(checkpoint.folder, **parts, **empty, **family.options)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.folder}: not a {family.pipeline}: {error}") from error


def load_component(part: Component, dtype: torch.dtype, *, balanced: bool) -> Any:
    """One component; a network only if every weight found its place."""
    try:
        cls = getattr(importlib.import_module(part.library), part.class_name)
    except AttributeError as error:
        raise CheckpointError(
            f"{part.folder}: {part.library} has no class {part.class_name!r}"
        ) from error
    try:
        if not issubclass(cls, torch.nn.Module):
            return cls.from_pretrained(part.folder, **_no_code(part.library))
        network, report = cls.from_pretrained(
            part.folder,
            variant=part.variant,
            use_safetensors=True,
            output_loading_info=True,
            low_cpu_mem_usage=True,
            device_map="balanced" if balanced else None,
            **_options(part.library, dtype),
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{part.folder}: cannot be loaded as {part.class_name}: {error}"
        ) from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = sorted(map(str, report.get(kind) or ()))
        if names:
            raise CheckpointError(
                f"{part.folder}: weights do not fit config.json: {kind.replace('_', ' ')}: "
                f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"
            )
    return network


def _options(library: str, dtype: torch.dtype) -> dict[str, Any]:
    """What the two libraries call differently; transformers names other shapes in its report."""
    if library == "transformers":
        return {"dtype": dtype, "ignore_mismatched_sizes": True, **_no_code(library)}
    return {"torch_dtype": dtype}


def _no_code(library: str) -> dict[str, bool]:
    """Without it transformers asks at the terminal whether to run what a checkpoint brings."""
    return {"trust_remote_code": False} if library == "transformers" else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' progress bars and reports: what they would say is raised here."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
        yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
