"""Stable Diffusion 1.x and 2.x (Rombach et al. 2021, arXiv:2112.10752), from a checkpoint.

Also its latent consistency distillations (Luo et al. 2023, arXiv:2310.04378).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch

from generators.backbones.base import BackboneSpec
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
    method="stable_diffusion",
    pipeline="StableDiffusionImg2ImgPipeline",
    components=("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    left_out=("safety_checker", "feature_extractor", "image_encoder"),
    options={"requires_safety_checker": False},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion(UnetSpec):
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

    family: ClassVar[Family] = FAMILY

    def settings(self, opened: OpenPipeline, image_size: int) -> dict[str, JsonValue]:
        """The negative prompt."""
        return {"negative_prompt": self.negative_prompt or ""}

    def network(
        self, opened: OpenPipeline, image_size: int, guidance: float | None, reader: SourceReader
    ) -> Network:
        """Reads prompts with CLIP, or OpenCLIP in Stable Diffusion 2."""
        return StableDiffusionNetwork(opened, self, guidance, reader)


class StableDiffusionNetwork(UnetNetwork):
    """Satisfies `Network`."""

    def __init__(
        self,
        opened: OpenPipeline,
        spec: StableDiffusion,
        guidance: float | None,
        reader: SourceReader,
    ) -> None:
        super().__init__(opened, guidance, reader)
        self._negative_prompt, self._clip_skip = spec.negative_prompt or "", spec.clip_skip
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


def _keep_text_model(text_encoder: Any) -> None:
    """Lets diffusers 0.42 find the last norm, which it reads as `text_encoder.text_model`'s.

    transformers 5 has no such module within a `CLIPTextModel`; the encoder itself takes its place.
    It is no submodule of its own: nothing that walks over modules sees it.
    """
    if "text_model" not in text_encoder._modules:
        text_encoder.__dict__["text_model"] = text_encoder


METHOD: Final[type[BackboneSpec]] = StableDiffusion
