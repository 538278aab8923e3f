"""The autoencoder of a latent diffusion model: pixels to scaled latents and back."""

from typing import Any

import torch
from torch import Tensor


class Autoencoder:
    """Wraps a diffusers VAE with the scaling that its family's denoiser expects.

    Args:
        vae: an `AutoencoderKL` (or a class with its interface).
        image_size: side of the images, pixels; a multiple of the VAE's reduction.
    """

    def __init__(self, vae: Any, image_size: int) -> None:
        self._vae = vae
        reduction = 2 ** (len(vae.config.block_out_channels) - 1)
        side = image_size // reduction
        self.latent_shape: tuple[int, int, int] = (vae.config.latent_channels, side, side)
        self.pixel_shape: tuple[int, int, int] = (3, image_size, image_size)
        self._scale: float = vae.config.scaling_factor
        self._shift: float = vae.config.shift_factor or 0.0

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self._vae.device
        return device

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, C, h, w) float32: the mode of the posterior, scaled."""
        posterior = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist
        latents: Tensor = (posterior.mode().float() - self._shift) * self._scale
        return latents

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, H, W) in [-1, 1], float32."""
        unscaled = latents / self._scale + self._shift
        pixels: Tensor = self._vae.decode(unscaled.to(self._vae.dtype)).sample
        return pixels.float().clamp(-1, 1)
