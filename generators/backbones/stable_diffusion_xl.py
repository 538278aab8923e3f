"""Stable Diffusion XL, base and refiner (Podell et al. 2023, arXiv:2307.01952), from a checkpoint.

The network is told, beside the prompt, how large the original of a training image was and which
part of it was cut out (Section 2.2); the refiner also how beautiful it was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import BackboneSpec
from generators.errors import CheckpointError
from generators.latent.backbone import Network
from generators.latent.family import Family
from generators.latent.image_inputs import SourceReader
from generators.latent.pipeline import OpenPipeline
from generators.latent.runtime import make_room
from generators.latent.unet import distinct
from generators.latent.unet_spec import UnetNetwork, UnetSpec
from generators.program import Conditioning
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
class StableDiffusionXL(UnetSpec):
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

    family: ClassVar[Family] = FAMILY
    addition_embed_type: ClassVar[str | None] = "text_time"
    unread_layers: ClassVar[int] = 1

    original_size: Size | None = None
    target_size: Size | None = None
    crop: Size = (0, 0)
    aesthetic_score: Annotated[float, Field(ge=0, le=10)] = 6.0
    negative_aesthetic_score: Annotated[float, Field(ge=0, le=10)] = 2.5

    def settings(self, opened: OpenPipeline, image_size: int) -> dict[str, JsonValue]:
        """Prompts, sizes and scores; only what this checkpoint reads."""
        sizes = {
            "negative_prompt": self.negative_prompt,
            "original_size": list(self.original_size or (image_size, image_size)),
            "crop": list(self.crop),
        }
        if opened.pipeline.config.requires_aesthetics_score:
            return {**sizes, "scores": [self.aesthetic_score, self.negative_aesthetic_score]}
        return {**sizes, "target_size": list(self.target_size or (image_size, image_size))}

    def network(
        self, opened: OpenPipeline, image_size: int, guidance: float | None, reader: SourceReader
    ) -> Network:
        """Reads prompts with CLIP and OpenCLIP; the refiner with the latter alone."""
        return StableDiffusionXLNetwork(opened, self, image_size, guidance, reader)


class StableDiffusionXLNetwork(UnetNetwork):
    """Satisfies `Network`."""

    def __init__(
        self,
        opened: OpenPipeline,
        spec: StableDiffusionXL,
        image_size: int,
        guidance: float | None,
        reader: SourceReader,
    ) -> None:
        super().__init__(opened, guidance, reader)
        self._negative_prompt, self._clip_skip = spec.negative_prompt, spec.clip_skip
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

    def added(self, cond: Conditioning) -> Mapping[str, Tensor]:
        """The pooled prompt and what the image is to look like."""
        return {"text_embeds": cond["pooled"], "time_ids": cond["time_ids"]}

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
