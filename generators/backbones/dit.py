"""DiT (Peebles & Xie 2022, arXiv:2212.09748): classes instead of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

from generators.backbones.base import Backbone, BackboneSpec, no_image_inputs
from generators.checkpoint_schedule import check_scheduler, read_schedule
from generators.errors import ConfigError, one_of
from generators.latent.autoencoder import Autoencoder
from generators.latent.backbone import LatentBackbone
from generators.latent.checkpoint import Checkpoint, check_checkpoint, find_checkpoint
from generators.latent.family import Family
from generators.latent.labels import class_indices
from generators.latent.patches import Grid, grid_of, require_transformer
from generators.latent.pipeline import OpenPipeline, PipelineNetwork, open_pipeline
from generators.latent.runtime import Runtime
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps
from generators.transfer import to_device

FAMILY = Family(
    method="dit", pipeline="DiTPipeline", components=("transformer", "vae", "scheduler")
)
TRANSFORMERS = ("DiTTransformer2DModel", "Transformer2DModel")
"""Now, and when the first checkpoints were saved; diffusers loads both as the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dit:
    """DiT: a latent transformer conditioned on classes, by label or number; no prompts.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        runtime: data type, memory and speed.
    """

    path: str
    variant: str | None = None
    runtime: Runtime = field(default_factory=Runtime)

    def check(self) -> None:
        """Verifies the checkpoint's files, its labels and options."""
        self.runtime.check()
        checkpoint = check_checkpoint(FAMILY, self.path, self.variant)
        if checkpoint is not None:
            self._grid(checkpoint)
            check_scheduler(checkpoint.config("scheduler"))
            _classes(checkpoint)

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: options that do not fit.
        """
        checkpoint = find_checkpoint(FAMILY, self.path, self.variant)
        grid, schedule = self._grid(checkpoint), read_schedule(checkpoint.config("scheduler"))
        opened = open_pipeline(checkpoint, self.runtime, torch.device(device))
        return LatentBackbone(
            DitNetwork(opened, _classes(checkpoint)),
            Autoencoder(opened.pipeline.vae, grid.image_size),
            schedule,
            checkpoint.fingerprint({"dtype": str(opened.dtype)}),
            checkpoint.card(self.path),
        )

    def _grid(self, checkpoint: Checkpoint) -> Grid:
        """Its one image size: positions and timesteps were trained for it alone."""
        require_transformer(checkpoint, TRANSFORMERS)
        config = checkpoint.config("transformer")
        patch, side = config.get("patch_size", 2), config.get("sample_size", 32)
        return grid_of(checkpoint, None, patch=patch, latent_side=side)


def _classes(checkpoint: Checkpoint) -> dict[str, int]:
    count = checkpoint.config("transformer").get("num_embeds_ada_norm") or 1000
    return class_indices(checkpoint.index.get("id2label"), count)


class DitNetwork(PipelineNetwork):
    """Satisfies `Network`. Of a learned variance nothing is kept."""

    def __init__(self, opened: OpenPipeline, classes: dict[str, int]) -> None:
        super().__init__(opened)
        self._classes = classes
        self._null: int = self._pipeline.transformer.config.num_embeds_ada_norm
        self.class_names: tuple[str, ...] | None = tuple(classes)

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """Class indices (1,), looked up by name."""
        for name in class_names:
            if name not in self._classes:
                raise ConfigError("class_name", name, one_of(self._classes, name))
        return self._of([self._classes[name] for name in class_names])

    def unconditional(self) -> Conditioning:
        """The null class, which follows the last one."""
        return self._of([self._null])[0]

    def _of(self, indices: list[int]) -> list[Conditioning]:
        rows = to_device(torch.tensor(indices, dtype=torch.long), self._opened.device)
        return [{"class": row} for row in rows[:, None].unbind()]

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> NoReturn:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The predicted noise, (N, C, h, w)."""
        output: Any = self._pipeline.transformer(
            x_t.to(self._opened.dtype),
            timestep=timesteps,
            class_labels=cond["class"],
            return_dict=False,
        )
        noise: Tensor = output[0][:, : x_t.shape[1]]
        return noise


METHOD: Final[type[BackboneSpec]] = Dit
