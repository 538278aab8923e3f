"""Latent diffusion models of any size, random weights, saved as Stable Diffusion is saved.

The architectures are the real classes; only widths are small. The parts are in proportion: decoding
an image takes about as long as three rows of the UNet, encoding one as long as one and a half. (Of
Stable Diffusion 1.5, `h100.py` counts 3.1 and 1.4 in floating-point operations.)
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generators.registry import MethodSpec

PROMPTS = (
    "a 8k real photo: a red fox walking on fresh snow at the edge of a pine forest",
    "a 8k real photo: a brown bear that stands in a shallow river and looks for salmon",
    "a 8k real photo: an old wolf with grey fur resting on a rock in evening light",
    "a 8k real photo: a small owl on a mossy branch, its eyes wide open, rain falling",
)
"""In the form of DisCL's long-tail prompts: `a 8k real photo: {description}`."""

SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""Stable Diffusion 1.5's `scheduler_config.json`, with DDIM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentModel:
    """The size of a model.

    Attributes:
        name: for reports.
        latent_size: side of the latents; images are eight times as wide.
        unet_widths: channels of the UNet's levels.
        vae_widths: channels of the VAE's four levels.
        text_width: of the text encoder and of cross-attention.
        seed: of the weights.
    """

    name: str
    latent_size: int
    unet_widths: tuple[int, ...]
    vae_widths: tuple[int, int, int, int]
    text_width: int
    seed: int = 0

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        return self.latent_size * 8


TINY = LatentModel(
    name="tiny",
    latent_size=8,
    unet_widths=(32, 64),
    vae_widths=(8, 16, 16, 16),
    text_width=32,
)
LARGE = LatentModel(
    name="large",
    latent_size=16,
    unet_widths=(96, 192),
    vae_widths=(32, 48, 64, 64),
    text_width=64,
)


def make_unet(model: LatentModel) -> Any:
    """A `UNet2DConditionModel`; cross-attention in all but the first level."""
    from diffusers import UNet2DConditionModel

    deeper = len(model.unet_widths) - 1
    return UNet2DConditionModel(
        sample_size=model.latent_size,
        block_out_channels=model.unet_widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
        up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
        cross_attention_dim=model.text_width,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def make_vae(model: LatentModel) -> Any:
    """An `AutoencoderKL` that halves the side three times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=model.vae_widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=model.image_size,
    )


def make_pipeline(model: LatentModel, folder: Path) -> Any:
    """The image-to-image pipeline with DDIM, float32.

    Args:
        model: its size.
        folder: an empty one for the tokenizer's files.
    """
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = make_tokenizer(folder)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=model.text_width,
        intermediate_size=4 * model.text_width,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        unet, vae, text_encoder = make_unet(model), make_vae(model), CLIPTextModel(config)
    return StableDiffusionImg2ImgPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_tokenizer(folder: Path) -> Any:
    """CLIP's own tokenizer class, trained on the prompts; 77 tokens a prompt."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    base = CLIPTokenizer.from_pretrained(folder)
    tokenizer = base.train_new_from_iterator(PROMPTS, vocab_size=700, show_progress=False)
    tokenizer.model_max_length = 77
    return tokenizer


def save_model(model: LatentModel, folder: Path) -> Path:
    """Makes a model and saves it; returns the folder that both sides load."""
    target = folder / model.name
    make_pipeline(model, folder / f"{model.name}-tokenizer").save_pretrained(target)
    return target


def backbone_spec(folder: Path) -> MethodSpec:
    """How our side loads it."""
    return MethodSpec(name="stable_diffusion", params={"path": str(folder)})


def load_pipeline(folder: Path) -> Any:
    """How diffusers' users load it; without progress bars, which would only slow it down."""
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
