"""What Stable Diffusion's text-conditional UNets share: sizes, schedules, embedded guidance."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from generators.checkpoint_schedule import check_scheduler, read_schedule
from generators.consistency_schedule import ConsistencySchedule, consistency_steps
from generators.errors import CheckpointError, ConfigError
from generators.latent.checkpoint import Checkpoint
from generators.latent.pipeline import OpenPipeline
from generators.noise import Schedule
from generators.records import num_denoising_steps
from generators.registry import JsonValue

CONSISTENCY = "LCMScheduler"
ORIGINAL_STEPS = 50  # LCMScheduler's default
FIRST_SIDE = 64  # latents, of Stable Diffusion 1
EMBEDDED_GUIDANCE = 8.5  # default of diffusers' latent consistency pipelines


def check_unet(checkpoint: Checkpoint, addition_embed_type: str | None) -> None:
    """Raises CheckpointError for a UNet that wants other inputs than this family has.

    Args:
        checkpoint: verified.
        addition_embed_type: None for Stable Diffusion 1 and 2, `text_time` for SDXL.
    """
    part = checkpoint.components["unet"]
    where = part.folder / "config.json"
    if part.class_name != "UNet2DConditionModel":
        raise CheckpointError(f"{part.folder}: a {part.class_name}; expected UNet2DConditionModel")
    config = part.config()
    wanted: dict[str, JsonValue] = {
        "addition_embed_type": addition_embed_type,
        "class_embed_type": None,
        "num_class_embeds": None,
        "encoder_hid_dim_type": None,
    }
    for key, value in wanted.items():
        if config.get(key) != value:
            raise CheckpointError(
                f"{where}: {key} is {config.get(key)!r}, which {checkpoint.family.method!r} does "
                f"not run; expected {value!r}"
            )
    channels, latents = config.get("in_channels", 4), _latent_channels(checkpoint)
    if channels != latents:
        raise CheckpointError(
            f"{where}: {channels} input channels, but latents have {latents}: an inpainting, "
            "editing or upscaling network; give a text-to-image one"
        )


def image_size_of(checkpoint: Checkpoint, wanted: int | None) -> int:
    """The side of the images in pixels: as wanted, or what the network was trained on.

    Raises:
        ConfigError: no multiple of the autoencoder's reduction.
        CheckpointError: a checkpoint for images that are not square, while no size is given.
    """
    reduction = 2 ** (len(checkpoint.config("vae").get("block_out_channels", [64])) - 1)
    if wanted is not None:
        if wanted % reduction:
            raise ConfigError("image_size", wanted, f"a multiple of {reduction}")
        return wanted
    side: JsonValue = checkpoint.config("unet").get("sample_size")
    if isinstance(side, list) and len(set(side)) == 1:
        side = side[0]
    if not isinstance(side, int):
        where = checkpoint.components["unet"].folder / "config.json"
        raise CheckpointError(f"{where}: sample_size is {side!r}, no side; set image_size")
    if side < FIRST_SIDE and _is_first_release(checkpoint.config("unet")):
        side = FIRST_SIDE
    return int(side * reduction)


def check_clip_skip(checkpoint: Checkpoint, clip_skip: int | None, kept: int) -> None:
    """Raises ConfigError if more layers are skipped than a text encoder has.

    Args:
        checkpoint: verified.
        clip_skip: last layers that are left out.
        kept: last layers that are never read anyway: 0, or 1 for SDXL.
    """
    if clip_skip is None:
        return
    encoders = [name for name in checkpoint.components if name.startswith("text_encoder")]
    most = min(checkpoint.config(name).get("num_hidden_layers", 12) for name in encoders) - kept
    if clip_skip > most:
        raise ConfigError("clip_skip", clip_skip, f"0..{most}, the text encoder's layers")


def check_schedule(config: Mapping[str, JsonValue]) -> None:
    """Raises CheckpointError for a scheduler config that no run could follow."""
    if config.get("_class_name") != CONSISTENCY:
        check_scheduler(config)
    epsilon = config.get("prediction_type", "epsilon") == "epsilon"
    if epsilon and config.get("rescale_betas_zero_snr"):
        raise CheckpointError(
            "scheduler_config.json: rescale_betas_zero_snr with prediction_type 'epsilon': from "
            "pure noise, predicted noise says nothing of the image; expected 'v_prediction'"
        )


def schedule_of(config: Mapping[str, JsonValue]) -> Schedule:
    """The noise schedule of a checkpoint's scheduler; raises what `check_schedule` does."""
    check_schedule(config)
    if config.get("_class_name") != CONSISTENCY:
        return read_schedule(config)
    from diffusers import DDIMScheduler

    table = DDIMScheduler.from_config(dict(config))
    return ConsistencySchedule(
        alphas_cumprod=table.alphas_cumprod,
        prediction_type=table.config.prediction_type,
        original_steps=config.get("original_inference_steps", ORIGINAL_STEPS),
    )


def steps_of(config: Mapping[str, JsonValue], num_inference_steps: int, image_guidance: int) -> int:
    """Steps a level runs: a consistency model runs all of them at every level."""
    if config.get("_class_name") != CONSISTENCY:
        return num_denoising_steps(num_inference_steps, image_guidance)
    original: int = config.get("original_inference_steps", ORIGINAL_STEPS)
    return consistency_steps(original, num_inference_steps, image_guidance)


def scheduler_config(opened: OpenPipeline) -> dict[str, JsonValue]:
    """As the pipeline uses it: diffusers repairs configs of its first releases."""
    scheduler = opened.pipeline.scheduler
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def check_embedded_guidance(checkpoint: Checkpoint, scale: float | None) -> float | None:
    """The guidance scale a distilled network is told; None for one that is told none.

    Raises:
        ConfigError: a scale for a network that takes none.
    """
    takes = checkpoint.config("unet").get("time_cond_proj_dim") is not None
    if scale is not None and not takes:
        allowed = "none: this network was not distilled with guidance; use the guidance method cfg"
        raise ConfigError("embedded_guidance", scale, allowed)
    return (EMBEDDED_GUIDANCE if scale is None else scale) if takes else None


def guidance_embedding(opened: OpenPipeline, scale: float | None) -> Tensor | None:
    """(1, time_cond_proj_dim) on the device, for every row (arXiv:2310.04378, Section 4.2)."""
    if scale is None:
        return None
    embedding: Tensor = opened.pipeline.get_guidance_scale_embedding(
        torch.tensor([scale - 1]), embedding_dim=opened.pipeline.unet.config.time_cond_proj_dim
    )
    return embedding.to(opened.device, opened.dtype)


def rows_of(timestep_cond: Tensor | None, count: int) -> Tensor | None:
    """The guidance embedding for each of `count` rows."""
    return None if timestep_cond is None else timestep_cond.expand(count, -1)


def distinct(prompts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each prompt once, and for every prompt which of them it is."""
    once = list(dict.fromkeys(prompts))
    place = {prompt: index for index, prompt in enumerate(once)}
    return once, [place[prompt] for prompt in prompts]


def _is_first_release(config: Mapping[str, JsonValue]) -> bool:
    """Before 0.9 diffusers noted a default as sample_size; its pipelines take 64 instead."""
    numbers = str(config.get("_diffusers_version", "1.0")).split(".")[:2]
    return all(n.isdecimal() for n in numbers) and tuple(map(int, numbers)) < (0, 9)


def _latent_channels(checkpoint: Checkpoint) -> int:
    channels: int = checkpoint.config("vae").get("latent_channels", 4)
    return channels
