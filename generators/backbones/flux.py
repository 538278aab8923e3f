"""FLUX.1 (Black Forest Labs 2024), dev and schnell, from a diffusers checkpoint.

Flow matching (Lipman et al. 2022, arXiv:2210.02747) on packed latents: a token is 2x2 latents. The
dev checkpoints were distilled to take a guidance scale as an input (Meng et al. 2022,
arXiv:2210.03142); guidance by two evaluations is possible beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
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

PATCH, LATENT_SIDE = 2, 128
"""Side of a token and of an image, in latents; no config of a checkpoint says them."""

EMBEDDED_GUIDANCE = 3.5
"""What `FluxPipeline` feeds a dev checkpoint unless told otherwise."""

FAMILY = Family(
    method="flux",
    pipeline="FluxImg2ImgPipeline",
    components=(
        "transformer",
        "vae",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
    ),
    left_out=("image_encoder", "feature_extractor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flux:
    """FLUX.1 dev and schnell: flow matching; `none` as guidance is one evaluation a step.

    Attributes:
        path: a folder that `save_pretrained` wrote, its URL, or a hub name.
        variant: of the weight files, e.g. `bf16`; none for the plain ones.
        image_size: side of the images in pixels; none: 128 latents, 1024 pixels.
        embedded_guidance: the scale a dev checkpoint takes as an input, at the cost of one
            evaluation; none: 3.5. Schnell checkpoints have no such input.
        negative_prompt: what guidance by two evaluations (`cfg`) leads away from.
        max_sequence_length: tokens the T5 reads; 256 for schnell.
        runtime: data type, memory and speed.
        adapters: LoRAs; its pipeline takes no learned words.
    """

    path: str
    variant: str | None = None
    image_size: Annotated[int, Field(ge=1)] | None = None
    embedded_guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    negative_prompt: str = ""
    max_sequence_length: Annotated[int, Field(ge=1, le=512)] = 512
    runtime: Runtime = field(default_factory=Runtime)
    adapters: Adapters = field(default_factory=Adapters)

    def check(self) -> None:
        """Verifies the checkpoint's files, sizes, guidance input, adapters and options."""
        self.runtime.check()
        check_loras(self.adapters)
        checkpoint = check_checkpoint(FAMILY, self.path, self.variant)
        if checkpoint is not None:
            self._schedule(checkpoint, self._grid(checkpoint))
            self._guidance(checkpoint)

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Loads the pipeline.

        Raises:
            CheckpointError: another family, or files or weights that are missing or do not fit.
            ConfigError: an image size, a guidance input, adapters or options that do not fit.
        """
        check_loras(self.adapters)
        checkpoint = find_checkpoint(FAMILY, self.path, self.variant)
        grid, guidance = self._grid(checkpoint), self._guidance(checkpoint)
        schedule = self._schedule(checkpoint, grid)
        opened = open_pipeline(
            checkpoint, self.runtime, torch.device(device), adapt=self.adapters.apply
        )
        settings = {
            "dtype": str(opened.dtype),
            "image_size": grid.image_size,
            "embedded_guidance": guidance,
            "negative_prompt": self.negative_prompt,
            "max_sequence_length": self.max_sequence_length,
            "adapters": self.adapters.identity(),
        }
        return LatentBackbone(
            FluxNetwork(opened, grid, self, guidance),
            Autoencoder(opened.pipeline.vae, grid.image_size),
            schedule,
            checkpoint.fingerprint(settings),
            checkpoint.card(self.path),
        )

    def _grid(self, checkpoint: Checkpoint) -> Grid:
        require_transformer(checkpoint, ("FluxTransformer2DModel",), packing=PATCH**2)
        return grid_of(checkpoint, self.image_size, patch=PATCH, latent_side=LATENT_SIDE)

    def _guidance(self, checkpoint: Checkpoint) -> float | None:
        """The scale that is fed to the transformer; None where it takes none."""
        if checkpoint.config("transformer").get("guidance_embeds", False):
            given = self.embedded_guidance
            return EMBEDDED_GUIDANCE if given is None else given
        if self.embedded_guidance is not None:
            allowed = "none: this checkpoint takes no guidance scale (guidance_embeds is false)"
            raise ConfigError("embedded_guidance", self.embedded_guidance, allowed)
        return None

    def _schedule(self, checkpoint: Checkpoint, grid: Grid) -> FlowSchedule:
        return FlowSchedule(
            scheduler_config=checkpoint.config("scheduler"),
            num_image_tokens=grid.num_tokens,
            linear_sigmas=True,
        )


class FluxNetwork(PipelineNetwork):
    """Satisfies `Network`. Latents come and go unpacked; only the transformer sees tokens."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self, opened: OpenPipeline, grid: Grid, spec: Flux, guidance: float | None
    ) -> None:
        super().__init__(opened)
        self._grid = grid
        self._spec, self._guidance = spec, guidance
        device, dtype, side = opened.device, opened.dtype, grid.tokens_per_side
        # Made once: the helper builds them on the host, and a copy in `forward` would wait for it.
        self._image_ids = self._pipeline._prepare_latent_image_ids(1, side, side, device, dtype)
        self._text_ids = torch.zeros(spec.max_sequence_length, 3, device=device, dtype=dtype)

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """T5's sequences (1, tokens, channels) and CLIP's pooled vectors (1, channels)."""
        make_room(self._pipeline)
        sequences, pooled, _ = self._pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            device=self._opened.device,
            max_sequence_length=self._spec.max_sequence_length,
        )
        dtype = self._opened.dtype
        rows = zip(sequences.to(dtype).split(1), pooled.to(dtype).split(1), strict=True)
        return [{"prompt": sequence, "pooled": vector} for sequence, vector in rows]

    def unconditional(self) -> Conditioning:
        """The negative prompt."""
        return self.condition([self._spec.negative_prompt], [""])[0]

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> NoReturn:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The flow eps - x_0, (N, C, h, w)."""
        count, channels, height, width = x_t.shape
        guidance = None
        if self._guidance is not None:
            guidance = torch.full((count,), self._guidance, device=x_t.device)
        packed = self._pipeline._pack_latents(
            x_t.to(self._opened.dtype), count, channels, height, width
        )
        output: Any = self._pipeline.transformer(
            hidden_states=packed,
            timestep=timesteps / 1000,
            guidance=guidance,
            encoder_hidden_states=cond["prompt"],
            pooled_projections=cond["pooled"],
            txt_ids=self._text_ids,
            img_ids=self._image_ids,
            return_dict=False,
        )
        size = self._grid.image_size
        flow: Tensor = self._pipeline._unpack_latents(
            output[0], size, size, self._pipeline.vae_scale_factor
        )
        return flow


METHOD: Final[type[BackboneSpec]] = Flux
