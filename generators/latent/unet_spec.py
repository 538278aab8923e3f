"""What backbones with a text-conditional UNet have in common: settings, loading, denoising."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone, ImageConditioning
from generators.latent.adapters import Adapters
from generators.latent.additions import Additions
from generators.latent.autoencoder import Autoencoder
from generators.latent.backbone import LatentBackbone, Network
from generators.latent.checkpoint import Checkpoint, check_checkpoint, find_checkpoint
from generators.latent.family import Family
from generators.latent.image_inputs import SourceReader
from generators.latent.ip_adapter import IpAdapter
from generators.latent.pipeline import OpenPipeline, PipelineNetwork, open_pipeline
from generators.latent.runtime import Runtime
from generators.latent.unet import (
    check_clip_skip,
    check_embedded_guidance,
    check_schedule,
    check_unet,
    guidance_embedding,
    image_size_of,
    rows_of,
    schedule_of,
    scheduler_config,
    steps_of,
)
from generators.program import Conditioning
from generators.records import ImageInputs
from generators.registry import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetSpec(ABC):
    """A checkpoint in diffusers' layout, how it is opened and what is added to it.

    Attributes:
        family: the pipeline of such checkpoints.
        addition_embed_type: of the UNet's config.
        unread_layers: last layers of the text encoders that are never read.
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        image_size: side of the images in pixels; none: what the network was trained on.
        negative_prompt: what guidance leads away from.
        clip_skip: last layers of the text encoders that prompts leave out.
        embedded_guidance: scale that a network distilled with guidance is told; none is 8.5.
        adapters: LoRAs and learned words.
        controlnet: folder of a ControlNet that requests may show the source to.
        ip_adapter: an IP-Adapter that may read the source as a prompt.
        runtime: data type, memory and speed.
    """

    family: ClassVar[Family]
    addition_embed_type: ClassVar[str | None] = None
    unread_layers: ClassVar[int] = 0

    path: str
    variant: str | None = None
    image_size: Annotated[int, Field(ge=8)] | None = None
    negative_prompt: str | None = None
    clip_skip: Annotated[int, Field(ge=0)] | None = None
    embedded_guidance: Annotated[float, Field(ge=0)] | None = None
    adapters: Adapters = field(default_factory=Adapters)
    controlnet: str | None = None
    ip_adapter: IpAdapter | None = None
    runtime: Runtime = field(default_factory=Runtime)

    @abstractmethod
    def settings(self, opened: OpenPipeline, image_size: int) -> dict[str, JsonValue]:
        """What images depend on beside weights, additions and embedded guidance."""

    @abstractmethod
    def network(
        self, opened: OpenPipeline, image_size: int, guidance: float | None, reader: SourceReader
    ) -> Network:
        """The checkpoint's text encoders and UNet."""

    def check(self) -> None:
        """Verifies files and settings; of a hub name only what is in the hub's cache."""
        self.runtime.check()
        checkpoint = check_checkpoint(self.family, self.path, self.variant)
        self._additions().check(checkpoint.config("unet") if checkpoint else None)
        if checkpoint is not None:
            self._check(checkpoint)

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count; a consistency model runs all steps at every level."""
        checkpoint = check_checkpoint(self.family, self.path, self.variant)
        config = checkpoint.config("scheduler") if checkpoint else {}
        return steps_of(config, num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline, downloading a hub name first.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: a setting this checkpoint or device does not have.
        """
        checkpoint = find_checkpoint(self.family, self.path, self.variant)
        self._check(checkpoint)
        additions, unet = self._additions(), checkpoint.config("unet")
        additions.check(unet)
        opened = open_pipeline(checkpoint, self.runtime, torch.device(device), additions.apply)
        image_size = image_size_of(checkpoint, self.image_size)
        guidance = check_embedded_guidance(checkpoint, self.embedded_guidance)
        settings = {
            "dtype": str(opened.dtype),
            "image_size": image_size,
            "clip_skip": self.clip_skip,
            **self.settings(opened, image_size),
            "embedded_guidance": guidance,
            **additions.identity(unet),
        }
        return LatentBackbone(
            self.network(opened, image_size, guidance, additions.open(opened, unet)),
            Autoencoder(opened.pipeline.vae, image_size, opened.device),
            schedule_of(scheduler_config(opened)),
            checkpoint.fingerprint(settings),
            checkpoint.card(self.path),
        )

    def _additions(self) -> Additions:
        return Additions(
            adapters=self.adapters,
            controlnet=self.controlnet,
            ip_adapter=self.ip_adapter,
            variant=self.variant,
            runtime=self.runtime,
        )

    def _check(self, checkpoint: Checkpoint) -> None:
        check_unet(checkpoint, self.addition_embed_type)
        check_schedule(checkpoint.config("scheduler"))
        check_clip_skip(checkpoint, self.clip_skip, self.unread_layers)
        check_embedded_guidance(checkpoint, self.embedded_guidance)
        image_size_of(checkpoint, self.image_size)


class UnetNetwork(PipelineNetwork):
    """Denoises with a UNet that reads prompts, and what was added to it.

    Args:
        opened: the pipeline that the network is a part of.
        guidance: scale that a distilled network is told.
        reader: shows sources to a ControlNet or an IP-Adapter.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(self, opened: OpenPipeline, guidance: float | None, reader: SourceReader) -> None:
        super().__init__(opened)
        self._reader = reader
        self._timestep_cond = guidance_embedding(opened, guidance)

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """What the ControlNet or the IP-Adapter sees of a source; ConfigError without one."""
        return self._reader.image_condition(pixels, inputs)

    def added(self, cond: Conditioning) -> Mapping[str, Tensor] | None:
        """The family's own entries of the UNet's `added_cond_kwargs`; it may have none."""
        return None

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Predicted noise, or v, (N, C, h, w)."""
        x_t, added = x_t.to(self._opened.dtype), self.added(cond)
        down, middle = self._reader.residuals(x_t, timesteps, cond["prompt"], added, cond)
        output: Any = self._pipeline.unet(
            x_t,
            timesteps,
            encoder_hidden_states=cond["prompt"],
            added_cond_kwargs={**(added or {}), **self._reader.added(cond)},
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            timestep_cond=rows_of(self._timestep_cond, len(x_t)),
            return_dict=False,
        )
        prediction: Tensor = output[0]
        return prediction
