"""The autoencoder of a latent diffusion model: pixels to scaled latents and back."""

import warnings
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


class Autoencoder:
    """Wraps a diffusers VAE with the scaling that its family's denoiser expects.

    Latents are (z - shift) * scale, or (z - mean) * scale / std where the checkpoint has a mean and
    a standard deviation for each channel (SDXL's pipelines).

    Some autoencoders overflow in half precision and give black images. Where that happens the batch
    is made again in float32, with a warning, and the autoencoder stays there. Seeing it takes one
    look at each decoded batch, for which the host waits for the device; it would wait there anyway,
    as the images leave the device next. Encoded batches are looked at in float16 only.

    Args:
        vae: an `AutoencoderKL` (or a class with its interface).
        image_size: side of the images, pixels; a multiple of the VAE's reduction.
        device: where it computes; None for where its weights, or the hooks that offload them, say.
    """

    def __init__(self, vae: Any, image_size: int, device: torch.device | None = None) -> None:
        from diffusers.utils.torch_utils import get_module_execution_device

        self._vae = vae.requires_grad_(False)
        reduction = 2 ** (len(vae.config.block_out_channels) - 1)
        side = image_size // reduction
        self.latent_shape: tuple[int, int, int] = (vae.config.latent_channels, side, side)
        self.pixel_shape: tuple[int, int, int] = (3, image_size, image_size)
        self.device: torch.device = device or get_module_execution_device(vae)
        scale = vae.config.scaling_factor
        mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
        if mean is None or std is None:
            mean, std = [vae.config.get("shift_factor") or 0.0], [1.0]
        self._shift = torch.tensor(mean, device=self.device).view(1, -1, 1, 1)
        self._scale = scale / torch.tensor(std, device=self.device).view(1, -1, 1, 1)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, C, h, w) float32: the mode of the posterior, scaled."""
        mode = self._mode(pixels)
        if self._vae.dtype == torch.float16 and not bool(torch.isfinite(mode).all()):
            self._upcast()
            mode = self._mode(pixels)
        latents: Tensor = (mode - self._shift) * self._scale
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, H, W) in [-1, 1], float32; not finite where latents are not.

        Gradients pass to latents that want them.
        """
        with torch.inference_mode(mode=not latents.requires_grad):
            return self._decoded(latents)

    def _decoded(self, latents: Tensor) -> Tensor:
        unscaled = latents / self._scale + self._shift
        pixels = self._pixels(unscaled)
        if self._vae.dtype in HALF and self._overflowed(pixels, unscaled):
            self._upcast()
            pixels = self._pixels(unscaled)
        return pixels.clamp(-1, 1)

    def _mode(self, pixels: Tensor) -> Tensor:
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
            retrieve_latents,
        )

        encoded = self._vae.encode(pixels.to(self._vae.dtype))
        latents: Tensor = retrieve_latents(encoded, sample_mode="argmax")
        return latents.float()

    def _pixels(self, unscaled: Tensor) -> Tensor:
        pixels: Tensor = self._vae.decode(unscaled.to(self._vae.dtype)).sample
        return pixels.float()

    @staticmethod
    def _overflowed(pixels: Tensor, unscaled: Tensor) -> bool:
        """Whether a finite latent became an image that is not: another one is not to blame."""
        good = torch.isfinite(pixels).flatten(1).all(1)
        return bool((~good & torch.isfinite(unscaled).flatten(1).all(1)).any())

    def _upcast(self) -> None:
        dtype = str(self._vae.dtype).removeprefix("torch.")
        warnings.warn(
            f"the autoencoder overflows in {dtype} and runs in float32 from here on", stacklevel=3
        )
        self._vae.float()
