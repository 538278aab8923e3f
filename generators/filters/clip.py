"""CLIP as judge: does the image show what the text says, is it like its source.

CLIPScore without its factor (Hessel et al. 2021, arXiv:2104.08718, Eq. 1); DisCL keeps images whose
text cosine is at least 0.30 (ImageNet-LT) or 0.25 (iWildCam) with ViT-B/32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError
from generators.filters.base import (
    LOW_TEXT_SIMILARITY,
    Bound,
    Judge,
    JudgeContext,
    LoadedJudge,
    chunks,
    cosine,
    first_refusal,
    source_bound,
)

TEXT, IMAGE = "clip_text_similarity", "clip_image_similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """CLIP's cosine of the image with a text naming its class, and with its source.

    The defaults refuse nothing.

    Attributes:
        path: a folder that `save_pretrained` wrote (model and processor), its URL, or a hub
            name such as `openai/clip-vit-base-patch32`.
        template: the text; `{class_name}` stands for the class, underscores as spaces.
        min_text_similarity: least cosine with the text, -1..1; 0.2 to 0.3 is usual.
        min_image_similarity: least cosine with the source, -1..1.
        max_image_similarity: most of the same; below 1 it refuses near-copies of the source.
    """

    path: str
    template: Annotated[str, Field(pattern=r"\{class_name\}")] = "a photo of a {class_name}"
    min_text_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    min_image_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    max_image_similarity: Annotated[float, Field(ge=-1, le=1)] = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Cosine with the text; cosine with the source."""
        return (TEXT, IMAGE)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Loads model and processor and embeds one text a class.

        Raises:
            CheckpointError: a folder or hub name that transformers cannot load as CLIP.
        """
        from transformers import CLIPModel, CLIPProcessor  # heavy: seconds

        folder = local_checkpoint(self.path, "filter.path")
        where = str(folder) if folder.is_dir() else self.path
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise CheckpointError(f"filter.path: {where!r} holds no config.json of a CLIP")
        try:
            model, loading = CLIPModel.from_pretrained(
                where, output_loading_info=True, use_safetensors=True
            )
            processor = CLIPProcessor.from_pretrained(where)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"filter.path: cannot load CLIP from {where!r}: {error}"
            ) from error
        if loading["missing_keys"]:
            lacking = sorted(loading["missing_keys"])[:3]
            raise CheckpointError(f"filter.path: {where!r} lacks weights of CLIP, e.g. {lacking}")
        texts = [
            self.template.replace("{class_name}", name.replace("_", " "))
            for name in context.class_names
        ]
        # Checkpoints keep their own precision; many on the hub are float16.
        model = model.to(context.device, torch.float32).eval().requires_grad_(False)
        return LoadedClip(model, processor, texts, context.device)

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps scores within the thresholds, ends included."""
        bounds = (
            Bound(column=TEXT, lowest=self.min_text_similarity, too_low=LOW_TEXT_SIMILARITY),
            source_bound(IMAGE, self.min_image_similarity, self.max_image_similarity),
        )
        return first_refusal(bounds, scores)


class LoadedClip:
    """CLIP in memory, with the embedded text of each class."""

    @torch.inference_mode()
    def __init__(self, model: Any, processor: Any, texts: list[str], device: str) -> None:
        self._model, self._processor, self._device = model, processor, device
        tokens = processor(text=texts, padding=True, truncation=True, return_tensors="pt")
        pooled = model.text_model(**tokens.to(device)).pooler_output
        self._texts: Tensor = model.text_projection(pooled)

    @torch.inference_mode()
    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Cosine with the text of each label; cosine with the source."""
        parts = [torch.zeros(2, 0)]
        for images, real, classes in chunks(pixels, sources, labels):
            embeddings = self._embed(images)
            texts = self._texts[classes.to(self._device)]
            likeness = cosine(embeddings, self._embed(real))
            parts.append(torch.stack([cosine(embeddings, texts), likeness]).cpu())
        text, image = torch.cat(parts, dim=1)
        return {TEXT: text, IMAGE: image}

    def _embed(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to image embeddings (N, D)."""
        images = pixels.expand(-1, 3, -1, -1)
        inputs = self._processor.image_processor(images=list(images), return_tensors="pt")
        pooled = self._model.vision_model(
            pixel_values=inputs["pixel_values"].to(self._device)
        ).pooler_output
        embeddings: Tensor = self._model.visual_projection(pooled)
        return embeddings


METHOD: Final[type[Judge]] = Clip
