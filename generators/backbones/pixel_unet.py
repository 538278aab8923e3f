"""Any unconditional or class-conditional diffusers `UNet2DModel` in pixel space, from a folder.

The folder is what `save_pretrained` writes: `config.json` and safetensors of the network,
`scheduler_config.json`, and our `card.json` (class names, what it was trained on, loss curve).
The last class embedding is the null class of classifier-free guidance.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from generators.backbones.base import (
    Backbone,
    BackboneSpec,
    ImageConditioning,
    no_image_inputs,
)
from generators.errors import CheckpointError, ConfigError, one_of
from generators.noise import NoiseSchedule
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps

WEIGHTS = Path(__file__).parent.parent / "weights"
"""Generators that ship with the package."""

FILES = ("config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json", "card.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelUnet:
    """A diffusers UNet2DModel in pixel space; `handwriting` ships with the package.

    Attributes:
        path: a folder, or the name of a generator that ships with the package.
    """

    path: str = "handwriting"

    def check(self) -> None:
        """Raises CheckpointError for a missing folder or file."""
        self.folder()

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the network.

        Raises:
            CheckpointError: a missing folder or file, or weights that do not fit the config.
        """
        return PixelUnetBackbone(self.folder(), torch.device(device))

    def folder(self) -> Path:
        """Where the files are; checks that none is missing."""
        folder = Path(self.path).expanduser()
        if not folder.exists() and (WEIGHTS / self.path).is_dir():
            folder = WEIGHTS / self.path
        if not folder.is_dir():
            shipped = one_of((p.name for p in WEIGHTS.iterdir() if p.is_dir()), self.path)
            raise CheckpointError(f"no generator folder {self.path!r}; give a folder or {shipped}")
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder}: {', '.join(missing)} missing (expected {FILES})")
        return folder


class PixelUnetBackbone:
    """The loaded network: samples are pixels. Any number of channels and classes."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        from diffusers import UNet2DModel  # heavy: seconds, only needed where images are made

        self.device = device
        try:
            self.card: dict[str, object] = json.loads((folder / "card.json").read_text())
            self.schedule = read_schedule(folder / "scheduler_config.json")
            network, loading = UNet2DModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: cannot load a UNet2DModel: {error}") from error
        if loading["missing_keys"]:
            lacking = ", ".join(sorted(loading["missing_keys"])[:3])
            raise CheckpointError(f"{folder}: weights of the network are missing, e.g. {lacking}")
        self._network = network.to(device).eval().requires_grad_(False)
        size = network.config.sample_size
        if size is None:
            raise CheckpointError(f"{folder}/config.json: sample_size is not given")
        height, width = (size, size) if isinstance(size, int) else size
        self.sample_shape: tuple[int, int, int] = (network.config.in_channels, height, width)
        self.pixel_shape = self.sample_shape
        self.class_names = self._read_class_names(network.config.num_class_embeds, folder)
        self.fingerprint = fingerprint(folder, self.class_names)

    def _read_class_names(
        self, num_class_embeds: int | None, folder: Path
    ) -> tuple[str, ...] | None:
        if num_class_embeds is None:
            return None
        found: Any = self.card.get("class_names", [])
        names = tuple(str(name) for name in found)
        if num_class_embeds != len(names) + 1:
            raise CheckpointError(
                f"{folder}/card.json: {len(names)} class_names, but the network has "
                f"{num_class_embeds} class embeddings; expected one more than there are classes"
            )
        return names

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
        return [
            {"class": torch.tensor([known.index(name)], device=self.device)} for name in class_names
        ]

    def unconditional(self) -> Conditioning:
        """The null class."""
        if self.class_names is None:
            allowed = "'none': this network is unconditional, there is nothing to guide towards"
            raise ConfigError("guidance.name", "cfg", allowed)
        return {"class": torch.tensor([len(self.class_names)], device=self.device)}

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Raw network output; of a learned-variance network (2C channels) the first half."""
        output: Tensor = self._network(x_t, timesteps, class_labels=cond.get("class")).sample
        return output[:, : x_t.shape[1]]


def read_schedule(path: Path) -> NoiseSchedule:
    """The noise schedule of a diffusers scheduler config."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(json.loads(path.read_text()))
    config = scheduler.config
    return NoiseSchedule.from_alphas_cumprod(
        scheduler.alphas_cumprod,
        config.prediction_type,
        timestep_spacing=config.timestep_spacing,
        steps_offset=config.steps_offset,
        set_alpha_to_one=config.set_alpha_to_one,
    )


def fingerprint(folder: Path, class_names: Sequence[str] | None) -> str:
    """32 hex digits over what decides pixels: three files, and which class has which index."""
    digest = hashlib.sha256(json.dumps(class_names).encode())
    for name in FILES[:3]:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:32]


METHOD: Final[type[BackboneSpec]] = PixelUnet
