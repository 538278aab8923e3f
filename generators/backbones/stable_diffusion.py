"""Stable Diffusion 1.x and 2.x (Rombach et al. 2021, arXiv:2112.10752), from a checkpoint.

Also its latent consistency distillations (Luo et al. 2023, arXiv:2310.04378).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone, BackboneSpec, ImageConditioning
from generators.latent.adapters import Adapters
from generators.latent.additions import Additions
from generators.latent.autoencoder import Autoencoder
from generators.latent.backbone import LatentBackbone
from generators.latent.checkpoint import Checkpoint, check_checkpoint, find_checkpoint
from generators.latent.family import Family
from generators.latent.image_inputs import SourceReader
from generators.latent.ip_adapter import IpAdapter
from generators.latent.pipeline import OpenPipeline, PipelineNetwork, open_pipeline
from generators.latent.runtime import Runtime, make_room
from generators.latent.unet import (
    check_clip_skip,
    check_embedded_guidance,
    check_schedule,
    check_unet,
    distinct,
    guidance_embedding,
    image_size_of,
    rows_of,
    schedule_of,
    scheduler_config,
    steps_of,
)
from generators.program import Conditioning
from generators.records import ImageInputs

FAMILY = Family(
    method="stable_diffusion",
    pipeline="StableDiffusionImg2ImgPipeline",
    components=("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    left_out=("safety_checker", "feature_extractor", "image_encoder"),
    options={"requires_safety_checker": False},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion:
    """Stable Diffusion 1.x and 2.x, their fine-tunings and latent consistency distillations.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        image_size: side of the images in pixels; none: what the network was trained on.
        negative_prompt: what guidance leads away from; none is the empty prompt.
        clip_skip: last layers of the text encoder that prompts leave out.
        embedded_guidance: scale that a network distilled with guidance is told; none is 8.5.
        adapters: LoRAs and learned words.
        controlnet: folder of a ControlNet that requests may show the source to.
        ip_adapter: an IP-Adapter that may read the source as a prompt.
        runtime: data type, memory and speed.
    """

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

    def check(self) -> None:
        """Verifies files and settings; of a hub name only what is in the hub's cache."""
        self.runtime.check()
        checkpoint = check_checkpoint(FAMILY, self.path, self.variant)
        self._additions().check(checkpoint.config("unet") if checkpoint else None)
        if checkpoint is not None:
            self._check(checkpoint)

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count; a consistency model runs all steps at every level."""
        checkpoint = check_checkpoint(FAMILY, self.path, self.variant)
        config = checkpoint.config("scheduler") if checkpoint else {}
        return steps_of(config, num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline, downloading a hub name first.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: a setting this checkpoint or device does not have.
        """
        checkpoint = find_checkpoint(FAMILY, self.path, self.variant)
        self._check(checkpoint)
        additions, unet = self._additions(), checkpoint.config("unet")
        additions.check(unet)
        opened = open_pipeline(checkpoint, self.runtime, torch.device(device), additions.apply)
        image_size = image_size_of(checkpoint, self.image_size)
        guidance = check_embedded_guidance(checkpoint, self.embedded_guidance)
        settings = {
            "dtype": str(opened.dtype),
            "image_size": image_size,
            "negative_prompt": self.negative_prompt or "",
            "clip_skip": self.clip_skip,
            "embedded_guidance": guidance,
            **additions.identity(unet),
        }
        network = StableDiffusionNetwork(opened, self, guidance, additions.open(opened, unet))
        return LatentBackbone(
            network,
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
        check_unet(checkpoint, None)
        check_schedule(checkpoint.config("scheduler"))
        check_clip_skip(checkpoint, self.clip_skip, 0)
        check_embedded_guidance(checkpoint, self.embedded_guidance)
        image_size_of(checkpoint, self.image_size)


class StableDiffusionNetwork(PipelineNetwork):
    """Satisfies `Network`."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        opened: OpenPipeline,
        spec: StableDiffusion,
        embedded_guidance: float | None,
        reader: SourceReader,
    ) -> None:
        super().__init__(opened)
        self._reader = reader
        self._negative_prompt, self._clip_skip = spec.negative_prompt or "", spec.clip_skip
        self._timestep_cond = guidance_embedding(opened, embedded_guidance)
        if spec.clip_skip is not None:
            _keep_text_model(self._pipeline.text_encoder)

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """Prompt embeddings (1, 77, d); a prompt that occurs often is read once."""
        make_room(self._pipeline)
        once, places = distinct(prompts)
        embeddings, _ = self._pipeline.encode_prompt(
            prompt=once,
            device=self._opened.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            clip_skip=self._clip_skip,
        )
        rows = embeddings.to(self._opened.dtype).split(1)
        return [self._reader.complete({"prompt": rows[place]}) for place in places]

    @torch.inference_mode()
    def unconditional(self) -> Conditioning:
        """The negative prompt. It leaves out no layers, as in diffusers' pipelines."""
        make_room(self._pipeline)
        _, negative = self._pipeline.encode_prompt(
            prompt="",
            device=self._opened.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=self._negative_prompt,
        )
        return self._reader.complete({"prompt": negative.to(self._opened.dtype)})

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """What the ControlNet or the IP-Adapter sees of a source; ConfigError without one."""
        return self._reader.image_condition(pixels, inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Predicted noise, or v, (N, C, h, w)."""
        x_t = x_t.to(self._opened.dtype)
        down, middle = self._reader.residuals(x_t, timesteps, cond["prompt"], None, cond)
        output: Any = self._pipeline.unet(
            x_t,
            timesteps,
            encoder_hidden_states=cond["prompt"],
            added_cond_kwargs=self._reader.added(cond),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            timestep_cond=rows_of(self._timestep_cond, len(x_t)),
            return_dict=False,
        )
        prediction: Tensor = output[0]
        return prediction


def _keep_text_model(text_encoder: Any) -> None:
    """Lets diffusers 0.42 find the last norm, which it reads as `text_encoder.text_model`'s.

    transformers 5 has no such module within a `CLIPTextModel`; the encoder itself takes its place.
    It is no submodule of its own: nothing that walks over modules sees it.
    """
    if "text_model" not in text_encoder._modules:
        text_encoder.__dict__["text_model"] = text_encoder


METHOD: Final[type[BackboneSpec]] = StableDiffusion
