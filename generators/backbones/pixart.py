"""PixArt-alpha (Chen et al. 2023, arXiv:2310.00426) and -sigma (2024, arXiv:2403.04692)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NoReturn

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone, BackboneSpec, no_image_inputs
from generators.checkpoint_schedule import check_scheduler, read_schedule
from generators.latent.autoencoder import Autoencoder
from generators.latent.backbone import LatentBackbone
from generators.latent.checkpoint import Checkpoint, check_checkpoint, find_checkpoint
from generators.latent.family import Family
from generators.latent.patches import Grid, grid_of, require_transformer
from generators.latent.pipeline import OpenPipeline, PipelineNetwork, open_pipeline
from generators.latent.runtime import Runtime, make_room
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps

FAMILY = Family(
    method="pixart",
    pipeline="PixArtAlphaPipeline",  # it reads prompts as sigma's does
    components=("transformer", "vae", "scheduler", "text_encoder", "tokenizer"),
)
TRANSFORMERS = ("PixArtTransformer2DModel", "Transformer2DModel")
"""Now, and when the first checkpoints were saved; diffusers loads both as the first."""

SEQUENCE_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class PixArt:
    """PixArt-alpha and -sigma: a small transformer that reads prompts with a T5.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        image_size: side of the images in pixels; none: what it was trained on.
        negative_prompt: what guidance leads away from.
        max_sequence_length: tokens the T5 reads; none: 120 for alpha, 300 for sigma.
        runtime: data type, memory and speed.
    """

    path: str
    variant: str | None = None
    image_size: Annotated[int, Field(ge=1)] | None = None
    negative_prompt: str = ""
    max_sequence_length: Annotated[int, Field(ge=1, le=512)] | None = None
    runtime: Runtime = field(default_factory=Runtime)

    def check(self) -> None:
        """Verifies the checkpoint's files, the image size and options."""
        self.runtime.check()
        checkpoint = check_checkpoint(FAMILY, self.path, self.variant)
        if checkpoint is not None:
            self._grid(checkpoint)
            check_scheduler(checkpoint.config("scheduler"))

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: an image size or options that do not fit.
        """
        checkpoint = find_checkpoint(FAMILY, self.path, self.variant)
        grid = self._grid(checkpoint)
        schedule = read_schedule(checkpoint.config("scheduler"))
        length = self.max_sequence_length or SEQUENCE_LENGTHS[str(checkpoint.index["_class_name"])]
        opened = open_pipeline(checkpoint, self.runtime, torch.device(device))
        settings = {
            "dtype": str(opened.dtype),
            "image_size": grid.image_size,
            "negative_prompt": self.negative_prompt,
            "max_sequence_length": length,
        }
        return LatentBackbone(
            PixArtNetwork(opened, grid, self.negative_prompt, length),
            Autoencoder(opened.pipeline.vae, grid.image_size),
            schedule,
            checkpoint.fingerprint(settings),
            checkpoint.card(self.path),
        )

    def _grid(self, checkpoint: Checkpoint) -> Grid:
        require_transformer(checkpoint, TRANSFORMERS)
        config = checkpoint.config("transformer")
        patch, side = config.get("patch_size", 2), config.get("sample_size", 128)
        return grid_of(checkpoint, self.image_size, patch=patch, latent_side=side)


class PixArtNetwork(PipelineNetwork):
    """Satisfies `Network`. Of a learned variance nothing is kept."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self, opened: OpenPipeline, grid: Grid, negative_prompt: str, max_sequence_length: int
    ) -> None:
        super().__init__(opened)
        self._negative_prompt = negative_prompt
        self._max_sequence_length = max_sequence_length
        self._size: tuple[Tensor, Tensor] | None = None
        if self._pipeline.transformer.use_additional_conditions:
            side, device, dtype = float(grid.image_size), opened.device, opened.dtype
            resolution = torch.tensor([[side, side]], device=device, dtype=dtype)
            self._size = (resolution, torch.ones(1, 1, device=device, dtype=dtype))

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """T5's sequences (1, tokens, channels), and which tokens are words (1, tokens)."""
        make_room(self._pipeline)
        sequences, mask, _, _ = self._pipeline.encode_prompt(
            prompt=list(prompts),
            do_classifier_free_guidance=False,
            device=self._opened.device,
            clean_caption=False,
            max_sequence_length=self._max_sequence_length,
        )
        rows = zip(sequences.to(self._opened.dtype).split(1), mask.split(1), strict=True)
        return [{"prompt": sequence, "words": words} for sequence, words in rows]

    def unconditional(self) -> Conditioning:
        """The negative prompt."""
        return self.condition([self._negative_prompt], [""])[0]

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> NoReturn:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The predicted noise, (N, C, h, w)."""
        count, channels = x_t.shape[:2]
        resolution = aspect_ratio = None
        if self._size is not None:
            resolution, aspect_ratio = (value.expand(count, -1) for value in self._size)
        output: Any = self._pipeline.transformer(
            hidden_states=x_t.to(self._opened.dtype),
            encoder_hidden_states=cond["prompt"],
            encoder_attention_mask=cond["words"],
            timestep=timesteps,
            added_cond_kwargs={"resolution": resolution, "aspect_ratio": aspect_ratio},
            return_dict=False,
        )
        noise: Tensor = output[0][:, :channels]
        return noise


METHOD: Final[type[BackboneSpec]] = PixArt
