"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206), from a diffusers checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, NoReturn

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone, BackboneSpec, no_image_inputs
from generators.errors import ConfigError
from generators.flow_schedule import FlowSchedule
from generators.latent.adapters import Adapters
from generators.latent.autoencoder import Autoencoder
from generators.latent.backbone import LatentBackbone
from generators.latent.checkpoint import Checkpoint, check_checkpoint, find_checkpoint
from generators.latent.family import Family
from generators.latent.patches import Grid, check_loras, grid_of, require_transformer
from generators.latent.pipeline import OpenPipeline, PipelineNetwork, open_pipeline
from generators.latent.runtime import Runtime, make_room
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps

T5 = ("text_encoder_3", "tokenizer_3")
FAMILY = Family(
    method="stable_diffusion_3",
    pipeline="StableDiffusion3Img2ImgPipeline",
    components=(
        "transformer",
        "vae",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
    ),
    optional=T5,
    left_out=("image_encoder", "feature_extractor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion3:
    """Stable Diffusion 3 and 3.5: flow matching, two CLIPs and, where it is there, a T5.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `fp16`; none for the plain ones.
        image_size: side of the images in pixels; none: what it was trained on.
        negative_prompt: what guidance leads away from.
        use_t5: load the T5, by far the largest encoder; without it long prompts lose detail.
        max_sequence_length: tokens the T5 reads.
        runtime: data type, memory and speed.
        adapters: LoRAs; its pipeline takes no learned words.
    """

    path: str
    variant: str | None = None
    image_size: Annotated[int, Field(ge=1)] | None = None
    negative_prompt: str = ""
    use_t5: bool = True
    max_sequence_length: Annotated[int, Field(ge=1, le=512)] = 256
    runtime: Runtime = field(default_factory=Runtime)
    adapters: Adapters = field(default_factory=Adapters)

    def check(self) -> None:
        """Verifies the checkpoint's files, the image size, adapters and options."""
        self.runtime.check()
        check_loras(self.adapters)
        checkpoint = check_checkpoint(self._family(), self.path, self.variant)
        if checkpoint is not None:
            self._schedule(checkpoint, self._grid(checkpoint))

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: an image size, adapters or options that do not fit.
        """
        check_loras(self.adapters)
        checkpoint = find_checkpoint(self._family(), self.path, self.variant)
        grid = self._grid(checkpoint)
        opened = open_pipeline(
            checkpoint, self.runtime, torch.device(device), adapt=self.adapters.apply
        )
        settings = {
            "dtype": str(opened.dtype),
            "image_size": grid.image_size,
            "negative_prompt": self.negative_prompt,
            "max_sequence_length": self.max_sequence_length,
            "adapters": self.adapters.identity(),
        }
        return LatentBackbone(
            StableDiffusion3Network(opened, self.negative_prompt, self.max_sequence_length),
            Autoencoder(opened.pipeline.vae, grid.image_size),
            self._schedule(checkpoint, grid),
            checkpoint.fingerprint(settings),
            checkpoint.card(self.path),
        )

    def _family(self) -> Family:
        return (
            FAMILY
            if self.use_t5
            else replace(FAMILY, optional=(), left_out=(*FAMILY.left_out, *T5))
        )

    def _grid(self, checkpoint: Checkpoint) -> Grid:
        require_transformer(checkpoint, ("SD3Transformer2DModel",))
        config = checkpoint.config("transformer")
        patch, most = config.get("patch_size", 2), config.get("pos_embed_max_size", 96)
        grid = grid_of(
            checkpoint, self.image_size, patch=patch, latent_side=config.get("sample_size", 128)
        )
        if grid.tokens_per_side > most:
            allowed = f"at most {most * grid.token_size}: it has positions for {most} tokens a side"
            raise ConfigError("image_size", grid.image_size, allowed)
        return grid

    def _schedule(self, checkpoint: Checkpoint, grid: Grid) -> FlowSchedule:
        return FlowSchedule(
            scheduler_config=checkpoint.config("scheduler"), num_image_tokens=grid.num_tokens
        )


class StableDiffusion3Network(PipelineNetwork):
    """Satisfies `Network`. The T5's part of the prompt is zeros where it was not loaded."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self, opened: OpenPipeline, negative_prompt: str, max_sequence_length: int
    ) -> None:
        super().__init__(opened)
        self._negative_prompt = negative_prompt
        self._max_sequence_length = max_sequence_length

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """Sequences (1, tokens, channels) and pooled vectors (1, channels)."""
        make_room(self._pipeline)
        sequences, _, pooled, _ = self._pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            device=self._opened.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self._max_sequence_length,
        )
        dtype = self._opened.dtype
        rows = zip(sequences.to(dtype).split(1), pooled.to(dtype).split(1), strict=True)
        return [{"prompt": sequence, "pooled": vector} for sequence, vector in rows]

    def unconditional(self) -> Conditioning:
        """The negative prompt."""
        return self.condition([self._negative_prompt], [""])[0]

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> NoReturn:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The flow eps - x_0, (N, C, h, w)."""
        output: Any = self._pipeline.transformer(
            hidden_states=x_t.to(self._opened.dtype),
            timestep=timesteps,
            encoder_hidden_states=cond["prompt"],
            pooled_projections=cond["pooled"],
            return_dict=False,
        )
        flow: Tensor = output[0]
        return flow


METHOD: Final[type[BackboneSpec]] = StableDiffusion3
