"""The safety checker that ships with Stable Diffusion, as a judge.

Its vision tower and concepts are diffusers' own class. Its `forward` paints refused images black
and keeps the numbers to itself; here the same numbers are a score and images stay as they are.
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
    UNSAFE_CONTENT,
    Bound,
    Judge,
    JudgeContext,
    LoadedJudge,
    chunks,
    first_refusal,
)

CONCEPT = "safety_concept_score"
CAUTION: Final = 0.01
"""What a matched special-care concept adds to all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """Stable Diffusion's safety checker: refuses images near its concepts of unsafe content.

    The score is the largest of (cosine with a concept - the concept's own threshold), all 0.01
    higher where one of the checker's special-care concepts matches, in thousandths as the checker
    rounds it. Above 0 the checker itself calls an image unsafe.

    Attributes:
        path: a Stable Diffusion folder with `safety_checker` and `feature_extractor`, or a folder
            or hub name of the checker alone, with its `preprocessor_config.json`; or a folder's
            URL.
        max_score: accepted up to here; 0 is the checker's own decision, lower is stricter.
    """

    path: str
    max_score: Annotated[float, Field(ge=-1, le=1)] = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The largest score of a concept."""
        return (CONCEPT,)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Loads the checker and its image processor.

        Raises:
            CheckpointError: a folder or hub name without them.
        """
        from diffusers.pipelines.stable_diffusion.safety_checker import (  # heavy: seconds
            StableDiffusionSafetyChecker,
        )
        from transformers import CLIPImageProcessor

        checker, extractor = self._places()
        try:
            model, loading = StableDiffusionSafetyChecker.from_pretrained(
                checker, output_loading_info=True, use_safetensors=True
            )
            processor = CLIPImageProcessor.from_pretrained(extractor)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"filter.path: cannot load a safety checker from {self.path!r}: {error}"
            ) from error
        if loading["missing_keys"]:
            lacking = sorted(loading["missing_keys"])[:3]
            raise CheckpointError(
                f"filter.path: {checker!r} lacks weights of a safety checker, e.g. {lacking}"
            )
        model = model.to(context.device, torch.float32).eval().requires_grad_(False)
        return LoadedSafety(model, processor, context.device)

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps scores up to the threshold, included."""
        return first_refusal(
            (Bound(column=CONCEPT, highest=self.max_score, too_high=UNSAFE_CONTENT),), scores
        )

    def _places(self) -> tuple[str, str]:
        """Where the checker and its image processor are."""
        folder = local_checkpoint(self.path, "filter.path")
        if not folder.is_dir():
            return self.path, self.path
        checker, extractor = folder, folder
        if (folder / "model_index.json").is_file() or (folder / "safety_checker").is_dir():
            checker, extractor = folder / "safety_checker", folder / "feature_extractor"
        for file in (checker / "config.json", extractor / "preprocessor_config.json"):
            if not file.is_file():
                raise CheckpointError(
                    f"filter.path: no file {str(file)!r}; expected a Stable Diffusion folder with "
                    "safety_checker and feature_extractor, or a folder with both files"
                )
        return str(checker), str(extractor)


class LoadedSafety:
    """The checker in memory."""

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        self._model, self._processor, self._device = model, processor, device

    @torch.inference_mode()
    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """The largest score of a concept; neither source nor label matters."""
        parts = [self._worst(images).cpu() for (images,) in chunks(pixels)]
        return {CONCEPT: torch.cat([torch.zeros(0), *parts])}

    def _worst(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N,): the numbers behind `StableDiffusionSafetyChecker.forward`."""
        from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance

        model = self._model
        images = list(pixels.expand(-1, 3, -1, -1))
        inputs = self._processor(images=images, return_tensors="pt")["pixel_values"]
        pooled = model.vision_model(inputs.to(self._device)).pooler_output
        embeddings = model.visual_projection(pooled)
        special = cosine_distance(embeddings, model.special_care_embeds)
        special = torch.round(special - model.special_care_embeds_weights, decimals=3)
        caution = CAUTION * (special > 0).any(1, keepdim=True)
        concepts = cosine_distance(embeddings, model.concept_embeds)
        scores = torch.round(concepts - model.concept_embeds_weights + caution, decimals=3)
        worst: Tensor = scores.amax(1)
        return worst


METHOD: Final[type[Judge]] = Safety
