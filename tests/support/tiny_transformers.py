"""Tiny random checkpoints of transformer families, written by diffusers' own `save_pretrained`.

All make 16x16 images from 4x8x8 latents; their tokenizers are trained here on a few words.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.support.tiny_pipelines import TEXTS, clip_tokenizer

IMAGE_SIZE, LATENT_SHAPE = 16, (4, 8, 8)
WIDTH = 32


def tiny_vae(shift_factor: float | None = None, seed: int = 0) -> Any:
    """An autoencoder that halves the sides."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=IMAGE_SIZE,
        scaling_factor=0.7,
        shift_factor=shift_factor,
    )


def tiny_clip(tokenizer: Any, cls: type = CLIPTextModel, hidden_size: int = 16) -> Any:
    """A CLIP text encoder of two layers."""
    torch.manual_seed(hidden_size)
    return cls(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=16,
            projection_dim=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def tiny_t5() -> tuple[Any, Any]:
    """T5's own tokenizer class, trained on a few words, and an encoder of one layer."""
    base = T5Tokenizer(extra_ids=0, additional_special_tokens=[])
    tokenizer = base.train_new_from_iterator(TEXTS, vocab_size=100)
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return tokenizer, T5EncoderModel(config).eval()


def save_sd3(folder: Path, *, t5: bool = True, **scheduler: Any) -> Path:
    """A Stable Diffusion 3: two CLIPs and, unless left out, a T5."""
    with torch.random.fork_rng(devices=[]):
        words = clip_tokenizer(folder / "tokenizer_source")
        tokenizer_3, text_encoder_3 = tiny_t5() if t5 else (None, None)
        parts = {
            "tokenizer": words,
            "tokenizer_2": words,
            "text_encoder": tiny_clip(words, CLIPTextModelWithProjection, 16),
            "text_encoder_2": tiny_clip(words, CLIPTextModelWithProjection, 12),
            "tokenizer_3": tokenizer_3,
            "text_encoder_3": text_encoder_3,
            "vae": tiny_vae(shift_factor=0.06),
        }
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=28,
            pos_embed_max_size=8,
        )
        flow = FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler})
        pipeline = StableDiffusion3Pipeline(transformer=transformer, scheduler=flow, **parts)
        pipeline.save_pretrained(folder)
    return folder


def save_flux(folder: Path, *, guidance_embeds: bool = True, **scheduler: Any) -> Path:
    """A FLUX: CLIP's pooled output, T5's sequence; without embedded guidance it is a schnell."""
    with torch.random.fork_rng(devices=[]):
        words = clip_tokenizer(folder / "tokenizer_source")
        tokenizer_2, text_encoder_2 = tiny_t5()
        parts = {
            "tokenizer": words,
            "text_encoder": tiny_clip(words),
            "tokenizer_2": tokenizer_2,
            "text_encoder_2": text_encoder_2,
            "vae": tiny_vae(shift_factor=0.1),
        }
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=16,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 2, 2),
        )
        flow = FlowMatchEulerDiscreteScheduler(**{"use_dynamic_shifting": True, **scheduler})
        pipeline = FluxPipeline(transformer=transformer, scheduler=flow, **parts)
        pipeline.save_pretrained(folder)
    return folder


def save_pixart(folder: Path, *, sigma: bool = False, micro: bool = False) -> Path:
    """A PixArt-alpha (with micro-conditions or without) or PixArt-sigma, learned variance."""
    with torch.random.fork_rng(devices=[]):
        tokenizer, text_encoder = tiny_t5()
        vae = tiny_vae()
        torch.manual_seed(7)
        transformer = PixArtTransformer2DModel(
            sample_size=128 if micro else 8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=3,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=24,
            caption_channels=WIDTH,
        )
        cls = PixArtSigmaPipeline if sigma else PixArtAlphaPipeline
        pipeline = cls(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=DPMSolverMultistepScheduler(),
        )
        pipeline.save_pretrained(folder)
    return folder


def save_dit(folder: Path, id2label: dict[int, str] | None, *, num_classes: int = 1000) -> Path:
    """A class-conditional DiT with learned variance; 1000 classes, as its pipeline asks for."""
    with torch.random.fork_rng(devices=[]):
        vae = tiny_vae()
        torch.manual_seed(9)
        transformer = DiTTransformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=num_classes,
        )
        DiTPipeline(transformer=transformer, vae=vae, scheduler=DDIMScheduler()).save_pretrained(
            folder
        )
    if id2label is not None:  # published checkpoints have it; `save_pretrained` forgets it
        index = json.loads((folder / "model_index.json").read_text())
        index["id2label"] = {str(key): label for key, label in id2label.items()}
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def saved_as_before(folder: Path, copy: Path) -> Path:
    """A copy that names its transformer as diffusers did before each family had a class."""
    shutil.copytree(folder, copy)
    for file in (copy / "model_index.json", copy / "transformer" / "config.json"):
        text = file.read_text()
        for name in ("PixArtTransformer2DModel", "DiTTransformer2DModel"):
            text = text.replace(f'"{name}"', '"Transformer2DModel"')
        file.write_text(text)
    return copy
