"""Tiny random Stable Diffusion checkpoints, written by diffusers' own `save_pretrained`.

Four channels of latents, reduced once: 32x32 images from 4x16x16 latents.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

IMAGE_SIZE, LATENT_SHAPE = 32, (4, 16, 16)
TEXTS = ["a photo of a cat", "a red fox in deep snow", "wolf at night", "blurry, low quality"] * 4
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
STEPS = {"timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False}
TEXT_WIDTH, PROJECTION = 16, 12


def save_sd(
    folder: Path,
    *,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    **scheduler: Any,
) -> Path:
    """Stable Diffusion 1.x or 2.x; `scheduler` changes its DDIM config, the others the networks."""
    config = {**BETAS, **STEPS, "set_alpha_to_one": False, **scheduler}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        tokenizer = clip_tokenizer(folder / "tokenizer_source")
        pipeline = StableDiffusionPipeline(
            vae=tiny_vae(**(vae or {})),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=tiny_unet(cross_attention_dim=TEXT_WIDTH, **(unet or {})),
            scheduler=DDIMScheduler(**config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, *, force_zeros: bool = True) -> Path:
    """SDXL base: two text encoders, size and crop conditioning, Euler's scheduler."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        tokenizer = clip_tokenizer(folder / "tokenizer_source")
        config = text_config(tokenizer)
        pipeline = StableDiffusionXLPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(config),
            text_encoder_2=CLIPTextModelWithProjection(config),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=tiny_unet(**_added(num_ids=6), cross_attention_dim=2 * TEXT_WIDTH),
            scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
            force_zeros_for_empty_prompt=force_zeros,
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def save_refiner(folder: Path) -> Path:
    """SDXL's refiner: one text encoder, aesthetic scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tokenizer = clip_tokenizer(folder / "tokenizer_source")
        pipeline = StableDiffusionXLImg2ImgPipeline(
            vae=tiny_vae(),
            text_encoder=None,
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer=None,
            tokenizer_2=tokenizer,
            unet=tiny_unet(**_added(num_ids=5), cross_attention_dim=TEXT_WIDTH),
            scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def tiny_vae(**changes: Any) -> Any:
    """An autoencoder that halves the sides."""
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "latent_channels": LATENT_SHAPE[0],
        "sample_size": IMAGE_SIZE,
        "scaling_factor": 0.7,
        "force_upcast": False,
    }
    return AutoencoderKL(**{**config, **changes})


def tiny_unet(**changes: Any) -> Any:
    """A text-conditional UNet of two levels."""
    config = {
        "sample_size": LATENT_SHAPE[1],
        "in_channels": LATENT_SHAPE[0],
        "out_channels": LATENT_SHAPE[0],
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**config, **changes})


def text_config(tokenizer: Any) -> Any:
    """Two layers, so that skipping one changes something."""
    return CLIPTextConfig(
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=3,
        projection_dim=PROJECTION,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's own tokenizer class, trained on a few words; padded to 77 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    base = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    tokenizer = base.train_new_from_iterator(TEXTS, vocab_size=600)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return tokenizer


def _added(num_ids: int) -> dict[str, Any]:
    """SDXL's micro-conditioning: pooled text and `num_ids` numbers, 4 channels each."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": PROJECTION + 4 * num_ids,
    }
