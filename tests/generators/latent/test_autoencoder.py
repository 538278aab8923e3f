"""Scaling of latents, memory options, and autoencoders that overflow in half precision."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from generators.backbones.stable_diffusion import FAMILY
from generators.latent.autoencoder import Autoencoder
from generators.latent.checkpoint import find_checkpoint
from generators.latent.pipeline import open_pipeline
from generators.latent.runtime import Runtime
from tests.support.tiny_pipelines import IMAGE_SIZE, LATENT_SHAPE, save_sd, tiny_vae

MEAN, STD = [0.1, -0.2, 0.3, -0.4], [1.1, 0.9, 1.2, 0.8]


def made(**changes: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return tiny_vae(**changes).eval()


def pixels(count: int = 2, side: int = IMAGE_SIZE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(4)) * 2 - 1


def near(one: Tensor, other: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling_factor": 0.18215},
        {"scaling_factor": 1.5, "shift_factor": 0.06},
        {"scaling_factor": 0.5, "latents_mean": MEAN, "latents_std": STD},
    ],
)
@torch.no_grad()
def test_latents_are_scaled_as_in_diffusers(changes: dict[str, Any]) -> None:
    vae = made(**changes)
    autoencoder = Autoencoder(vae, IMAGE_SIZE)

    latents = autoencoder.encode(pixels())

    scale = changes["scaling_factor"]
    mode = vae.encode(pixels()).latent_dist.mode()
    if "latents_mean" in changes:  # StableDiffusionXLImg2ImgPipeline.prepare_latents
        mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, STD))
        near(latents, (mode - mean) * scale / std)
    else:
        near(latents, (mode - changes.get("shift_factor", 0)) * scale)
    near(autoencoder.decode(latents), vae.decode(mode).sample.clamp(-1, 1))
    assert autoencoder.latent_shape == LATENT_SHAPE


@torch.no_grad()
def test_a_tiny_autoencoder_has_no_posterior() -> None:
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    autoencoder = Autoencoder(vae, IMAGE_SIZE)

    latents = autoencoder.encode(pixels())

    assert latents.shape[1:] == autoencoder.latent_shape
    near(latents, vae.encode(pixels()).latents)
    near(autoencoder.decode(latents), vae.decode(latents).sample.clamp(-1, 1))


def overflowing(dtype: torch.dtype) -> Any:
    """Activations of about 1e5 before the last norm, which makes them small again: SDXL's trouble.

    float16 ends at 65504; float32 and bfloat16 hold them.
    """
    vae = made()
    with torch.no_grad():
        vae.decoder.conv_in.weight *= 1e5
        vae.encoder.conv_in.weight *= 1e5
    return vae.to(dtype)


def test_an_autoencoder_that_overflows_decodes_again_in_float32_and_stays_there() -> None:
    vae = overflowing(torch.float16)
    autoencoder = Autoencoder(vae, IMAGE_SIZE)
    latents = torch.randn(2, *LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert not torch.isfinite(vae.decode(latents.half() / 0.7).sample).all()

    with pytest.warns(UserWarning, match="overflows in float16 and runs in float32"):
        images = autoencoder.decode(latents)

    assert vae.dtype == torch.float32
    near(images, Autoencoder(overflowing(torch.float16).float(), IMAGE_SIZE).decode(latents))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near(autoencoder.decode(latents), images)


def test_an_autoencoder_that_overflows_encodes_again_in_float32() -> None:
    autoencoder = Autoencoder(overflowing(torch.float16), IMAGE_SIZE)
    with pytest.warns(UserWarning, match="runs in float32"):
        latents = autoencoder.encode(pixels())
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_broken_latent_is_not_the_autoencoders_fault(dtype: torch.dtype) -> None:
    vae = made().to(dtype)
    latents = torch.zeros(3, *LATENT_SHAPE)
    latents[1, 0, 0, 0] = float("nan")

    images = Autoencoder(vae, IMAGE_SIZE).decode(latents)

    finite = torch.isfinite(images).flatten(1).all(1)
    assert finite.tolist() == [True, False, True]
    assert vae.dtype == dtype


@pytest.mark.parametrize(
    ("force_upcast", "dtype", "expected"),
    [
        (True, "float16", torch.float32),
        (False, "float16", torch.float16),
        (True, "bfloat16", torch.bfloat16),
    ],
)
def test_a_checkpoint_that_says_it_overflows_is_loaded_in_float32(
    force_upcast: bool, dtype: Any, expected: torch.dtype, tmp_path: Path
) -> None:
    folder = save_sd(tmp_path, vae={"force_upcast": force_upcast})
    runtime = Runtime(dtype=dtype)

    opened = open_pipeline(find_checkpoint(FAMILY, str(folder)), runtime, torch.device("cpu"))

    assert opened.pipeline.vae.dtype == expected
    assert opened.pipeline.unet.dtype == opened.dtype
    autoencoder = Autoencoder(opened.pipeline.vae, IMAGE_SIZE)
    latents = autoencoder.encode(pixels())
    assert latents.dtype == torch.float32
    assert autoencoder.decode(latents).dtype == torch.float32


@torch.no_grad()
def test_slices_and_tiles_equal_those_of_diffusers() -> None:
    plain, sliced, tiled = (made(sample_size=16) for _ in range(3))
    sliced.enable_slicing()
    tiled.enable_tiling()
    images = pixels(3)
    latents = Autoencoder(plain, IMAGE_SIZE).encode(images)

    near(Autoencoder(sliced, IMAGE_SIZE).encode(images), latents)
    whole = Autoencoder(plain, IMAGE_SIZE).decode(latents)
    near(Autoencoder(sliced, IMAGE_SIZE).decode(latents), whole)

    in_tiles = Autoencoder(tiled, IMAGE_SIZE)
    expected = tiled.decode(latents / tiled.config.scaling_factor).sample.clamp(-1, 1)
    near(in_tiles.decode(latents), expected)
    assert not torch.allclose(in_tiles.decode(latents), whole, atol=1e-3)  # it did make tiles
    mode = tiled.encode(images).latent_dist.mode() * tiled.config.scaling_factor
    near(in_tiles.encode(images), mode)
