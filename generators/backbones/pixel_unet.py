"""Any unconditional or class-conditional diffusers `UNet2DModel` in pixel space, from a folder.

The folder is what `save_pretrained` of a UNet or of its pipeline writes; `card.json` adds class
names, what the network was trained on and its losses. A class embedding after the last class is the
null class of classifier-free guidance.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from generators.backbones.base import (
    Backbone,
    BackboneSpec,
    ImageConditioning,
    no_image_inputs,
)
from generators.checkpoint_places import local_checkpoint
from generators.checkpoint_schedule import check_scheduler, read_schedule
from generators.errors import CheckpointError, ConfigError, one_of
from generators.fit_spec import autocast, predict
from generators.latent.weights import read_json
from generators.pixel_folder import (
    CARD,
    CONFIG,
    SCHEDULER,
    WEIGHTS,
    UnetFiles,
    find_files,
    read_classes,
    read_patch_size,
)
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps
from generators.transfer import to_device

SHIPPED = Path(__file__).parent.parent / "weights"
"""Generators that ship with the package."""

FILES = (CONFIG, WEIGHTS, SCHEDULER, CARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelUnet:
    """A diffusers UNet2DModel in pixel space; `handwriting` ships with the package.

    Attributes:
        path: a folder, or the name of a generator that ships with the package.
        class_names: its classes by index, without the null class; none: what `card.json` says.
        image_size: side of the images in pixels; none: what the network was trained on.
        dtype: of its passes. bfloat16 makes other images, on newer CPUs and GPUs three times as
            fast; part of the fingerprint.
    """

    path: str = "handwriting"
    class_names: tuple[str, ...] | None = None
    image_size: Annotated[int, Field(ge=1)] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    def check(self) -> None:
        """Raises what `load` would, but for what only the weights show."""
        files = find_files(self.folder())
        config = read_json(files.config)
        read_classes(files, config, self.class_names)
        image_size(config, self.image_size, files.config, read_patch_size(files))
        check_scheduler(read_json(files.scheduler))

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the network.

        Raises:
            CheckpointError: a missing folder or file, a network of another kind, or weights that
                do not fit the config.
            ConfigError: class names or an image size that do not fit the network.
        """
        self.check()
        return PixelUnetBackbone(self, find_files(self.folder()), torch.device(device))

    def folder(self) -> Path:
        """Where the files are.

        Raises:
            CheckpointError: there is no such folder.
        """
        folder = local_checkpoint(self.path, "generation.backbone.path")
        if not folder.exists() and (SHIPPED / self.path).is_dir():
            folder = SHIPPED / self.path
        if not folder.is_dir():
            shipped = one_of((p.name for p in SHIPPED.iterdir() if p.is_dir()), self.path)
            raise CheckpointError(f"no generator folder {self.path!r}; give a folder or {shipped}")
        return folder


class PixelUnetBackbone:
    """The loaded network: samples are pixels. Any number of channels and classes."""

    def __init__(self, spec: PixelUnet, files: UnetFiles, device: torch.device) -> None:
        self.device = device
        self.card: dict[str, object] = read_json(files.card) if files.card else {}
        self.schedule = read_schedule(read_json(files.scheduler))
        network = load_unet(files)
        config = network.config
        if config.out_channels not in (config.in_channels, 2 * config.in_channels):
            raise CheckpointError(
                f"{files.config}: out_channels {config.out_channels}; expected in_channels "
                f"{config.in_channels}, or twice as many for a learned variance"
            )
        self._network, self._dtype = network.to(device).eval().requires_grad_(False), spec.dtype
        if spec.dtype != "float32":
            self._network.to(memory_format=torch.channels_last)
        # These look the timestep up in a table, and the engine's are of no integer type.
        self._whole_timesteps = config.time_embedding_type == "learned"
        patch = self._patch_size = read_patch_size(files)
        height, width = image_size(config, spec.image_size, files.config, patch)
        channels = config.in_channels // patch**2
        self.sample_shape: tuple[int, int, int] = (channels, height, width)
        self.pixel_shape = self.sample_shape
        self._classes = read_classes(files, config, spec.class_names)
        self.class_names = self._classes.names
        other = None if spec.image_size is None else (height, width)
        trained = image_size(config, None, files.config, patch) if config.sample_size else None
        self.fingerprint = fingerprint(
            files, self.class_names, None if other == trained else other, patch, spec.dtype
        )

    @property
    def denoiser(self) -> nn.Module | None:
        """The UNet."""
        found: nn.Module = self._network
        return found

    def with_denoiser(self, module: nn.Module) -> Backbone:
        """The same backbone around another UNet."""
        other = copy.copy(self)
        other._network = module
        return other

    def encode(self, pixels: Tensor) -> Tensor:
        """Samples are pixels."""
        return pixels

    def decode(self, samples: Tensor) -> Tensor:
        """Pixels are samples, clamped to their range."""
        return samples.clamp(-1, 1)

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """Class indices (1,), looked up by name; nothing for an unconditional network."""
        known = self.class_names
        if known is None:
            return [{} for _ in class_names]
        for name in class_names:
            if name not in known:
                raise ConfigError("class_name", name, one_of(known, name))
        return self._of([known.index(name) for name in class_names])

    def unconditional(self) -> Conditioning:
        """The null class."""
        if self._classes.null is None:
            kind = "unconditional" if self.class_names is None else "trained without a null class"
            allowed = f"'none': this network is {kind}, there is nothing to guide away from"
            raise ConfigError("guidance.name", "cfg", allowed)
        return self._of([self._classes.null])[0]

    def _of(self, indices: list[int]) -> list[Conditioning]:
        rows = to_device(torch.tensor(indices, dtype=torch.long), self.device)
        return [{"class": row} for row in rows[:, None].unbind()]

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Raw network output; of a learned-variance network (2C channels) the first half."""
        if self._whole_timesteps:
            timesteps = timesteps.long()
        with autocast(self.device, self._dtype):
            output = predict(self._network, self._patch_size, x_t, timesteps, cond.get("class"))
        return output[:, : x_t.shape[1]].float()


def load_unet(files: UnetFiles) -> Any:
    """The network with all its weights, and no others.

    Raises:
        CheckpointError: they cannot be read, or do not fit the config.
    """
    from diffusers import UNet2DModel  # heavy: seconds, only needed where images are made

    folder = files.config.parent
    try:
        network, loading = UNet2DModel.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: cannot load a UNet2DModel: {error}") from error
    for what in ("missing", "unexpected"):
        keys = sorted(loading[f"{what}_keys"])
        if keys:
            raise CheckpointError(
                f"{folder}: weights of the network are {what}, e.g. {', '.join(keys[:3])}"
            )
    return network


def image_size(config: Any, wanted: int | None, where: Path, patch_size: int) -> tuple[int, int]:
    """Height and width of the images, pixels.

    Args:
        config: of the network.
        wanted: side; None for the one it was trained on.
        where: the config's file, for errors.
        patch_size: side of the squares of pixels that the network sees as one.
    """
    trained = config.get("sample_size")
    if wanted is None and not trained:
        raise CheckpointError(f"{where}: sample_size is not given; set image_size")
    if wanted:
        height = width = wanted
    else:
        sides = (trained, trained) if isinstance(trained, int) else trained
        height, width = (side * patch_size for side in sides)
    multiple = patch_size * 2 ** (len(config.get("block_out_channels", ())) - 1)
    if height % multiple or width % multiple:
        allowed = f"a multiple of {multiple}: the network halves its images often"
        raise ConfigError("image_size", wanted or list(trained), allowed)
    return height, width


def fingerprint(
    files: UnetFiles,
    class_names: Sequence[str] | None,
    size: tuple[int, int] | None,
    patch_size: int,
    dtype: str = "float32",
) -> str:
    """32 hex digits over what decides pixels.

    Args:
        files: three of them, not the card.
        class_names: which class has which index.
        size: of the images, where it is not the one the network was trained on.
        patch_size: side of the squares of pixels that the network sees as one.
        dtype: of its passes.
    """
    digest = hashlib.sha256(json.dumps(class_names).encode())
    for path in (files.config, files.weights, files.scheduler):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if size is not None:
        digest.update(json.dumps(size).encode())
    if patch_size > 1:
        digest.update(f"patches of {patch_size}".encode())
    if dtype != "float32":
        digest.update(dtype.encode())
    return digest.hexdigest()[:32]


METHOD: Final[type[BackboneSpec]] = PixelUnet
