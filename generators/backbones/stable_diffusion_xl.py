"""Stable Diffusion XL, base and refiner (Podell et al. 2023, arXiv:2307.01952), from a checkpoint.

The network is told, beside the prompt, how large the original of a training image was and which
part of it was cut out (Section 2.2); the refiner also how beautiful it was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone, BackboneSpec, ImageConditioning
from generators.errors import CheckpointError
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
from generators.registry import JsonValue

FAMILY = Family(
    method="stable_diffusion_xl",
    pipeline="StableDiffusionXLImg2ImgPipeline",
    components=("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"),
    optional=("text_encoder", "tokenizer"),  # the refiner has none
    left_out=("feature_extractor", "image_encoder"),
    options={"add_watermarker": False},
)
Size = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusionXL:
    """Stable Diffusion XL, base or refiner, and their fine-tunings and distillations.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        image_size: side of the images in pixels; none: what the network was trained on.
        negative_prompt: what guidance leads away from; none: zeros or the empty prompt, as the
            checkpoint was trained.
        clip_skip: last layers of the text encoders that prompts leave out, beyond the last one.
        embedded_guidance: scale that a network distilled with guidance is told; none is 8.5.
        original_size: (height, width) the image is to look as if taken at; none: its size.
        target_size: (height, width) the image is to be made for; none: its size.
        crop: (top, left) of the part of the original; (0, 0) gives centred subjects.
        aesthetic_score: of the image, 1..10; the refiner alone reads it.
        negative_aesthetic_score: of what guidance leads away from.
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
    original_size: Size | None = None
    target_size: Size | None = None
    crop: Size = (0, 0)
    aesthetic_score: Annotated[float, Field(ge=0, le=10)] = 6.0
    negative_aesthetic_score: Annotated[float, Field(ge=0, le=10)] = 2.5
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
            **self._settings(opened, image_size),
            "embedded_guidance": guidance,
            **additions.identity(unet),
        }
        reader = additions.open(opened, unet)
        return LatentBackbone(
            StableDiffusionXLNetwork(opened, self, image_size, guidance, reader),
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
        check_unet(checkpoint, "text_time")
        check_schedule(checkpoint.config("scheduler"))
        check_clip_skip(checkpoint, self.clip_skip, 1)
        check_embedded_guidance(checkpoint, self.embedded_guidance)
        image_size_of(checkpoint, self.image_size)

    def _settings(self, opened: OpenPipeline, image_size: int) -> dict[str, JsonValue]:
        """All but the guidance; only what this checkpoint reads."""
        sizes = {
            "dtype": str(opened.dtype),
            "image_size": image_size,
            "negative_prompt": self.negative_prompt,
            "clip_skip": self.clip_skip,
            "original_size": list(self.original_size or (image_size, image_size)),
            "crop": list(self.crop),
        }
        if opened.pipeline.config.requires_aesthetics_score:
            return {**sizes, "scores": [self.aesthetic_score, self.negative_aesthetic_score]}
        return {**sizes, "target_size": list(self.target_size or (image_size, image_size))}


class StableDiffusionXLNetwork(PipelineNetwork):
    """Satisfies `Network`."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        opened: OpenPipeline,
        spec: StableDiffusionXL,
        image_size: int,
        embedded_guidance: float | None,
        reader: SourceReader,
    ) -> None:
        super().__init__(opened)
        self._reader = reader
        self._negative_prompt, self._clip_skip = spec.negative_prompt, spec.clip_skip
        self._timestep_cond = guidance_embedding(opened, embedded_guidance)
        self._ids, self._negative_ids = _time_ids(opened, spec, image_size)

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """Prompt embeddings (1, 77, d), pooled ones (1, p), and what the image is to look like."""
        make_room(self._pipeline)
        once, places = distinct(prompts)
        embeddings, _, pooled, _ = self._pipeline.encode_prompt(
            prompt=once,
            device=self._opened.device,
            do_classifier_free_guidance=False,
            clip_skip=self._clip_skip,
        )
        rows = [
            self._entries(row, vector, self._ids)
            for row, vector in zip(embeddings.split(1), pooled.split(1), strict=True)
        ]
        return [rows[place] for place in places]

    @torch.inference_mode()
    def unconditional(self) -> Conditioning:
        """The negative prompt; zeros where none is given and the checkpoint was trained so."""
        make_room(self._pipeline)
        _, negative, _, pooled = self._pipeline.encode_prompt(
            prompt="",
            device=self._opened.device,
            do_classifier_free_guidance=True,
            negative_prompt=self._negative_prompt,
        )
        return self._entries(negative, pooled, self._negative_ids)

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """What the ControlNet or the IP-Adapter sees of a source; ConfigError without one."""
        return self._reader.image_condition(pixels, inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Predicted noise, or v, (N, C, h, w)."""
        x_t = x_t.to(self._opened.dtype)
        added = {"text_embeds": cond["pooled"], "time_ids": cond["time_ids"]}
        down, middle = self._reader.residuals(x_t, timesteps, cond["prompt"], added, cond)
        output: Any = self._pipeline.unet(
            x_t,
            timesteps,
            encoder_hidden_states=cond["prompt"],
            added_cond_kwargs={**added, **self._reader.added(cond)},
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            timestep_cond=rows_of(self._timestep_cond, len(x_t)),
            return_dict=False,
        )
        prediction: Tensor = output[0]
        return prediction

    def _entries(self, prompt: Tensor, pooled: Tensor, time_ids: Tensor) -> Conditioning:
        dtype = self._opened.dtype
        entries = {
            "prompt": prompt.to(dtype),
            "pooled": pooled.to(self._opened.device, dtype),
            "time_ids": time_ids,
        }
        return self._reader.complete(entries)


def _time_ids(
    opened: OpenPipeline, spec: StableDiffusionXL, image_size: int
) -> tuple[Tensor, Tensor]:
    """Sizes, crop and score in the network's order: of the image, and of what it is not to be.

    Raises:
        CheckpointError: a network that reads scores while model_index.json says it does not, or the
            other way round.
    """
    size = (image_size, image_size)
    original, target = spec.original_size or size, spec.target_size or size
    try:
        ids, negative_ids = opened.pipeline._get_add_time_ids(
            original_size=original,
            crops_coords_top_left=spec.crop,
            target_size=target,
            aesthetic_score=spec.aesthetic_score,
            negative_aesthetic_score=spec.negative_aesthetic_score,
            negative_original_size=original,
            negative_crops_coords_top_left=spec.crop,
            negative_target_size=target,
            # In bfloat16 sizes above 256 would be rounded; they are embedded in float32 anyway.
            dtype=torch.float32,
            text_encoder_projection_dim=opened.pipeline.text_encoder_2.config.projection_dim,
        )
    except ValueError as error:
        raise CheckpointError(f"{spec.path}/model_index.json: {error}") from error
    return ids.to(opened.device), negative_ids.to(opened.device)


METHOD: Final[type[BackboneSpec]] = StableDiffusionXL
