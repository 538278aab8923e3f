"""A latent diffusion model behind the backbone protocol: a network, an autoencoder, a schedule.

A family (Stable Diffusion, FLUX, ...) is a `Network`: how prompts are read and what the denoiser is
called with. Everything else is the same for all of them and stands here.
"""

import copy
from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from generators.backbones.base import ImageConditioning
from generators.latent.autoencoder import Autoencoder
from generators.noise import Schedule
from generators.program import Conditioning
from generators.records import ImageInputs


class Network(Protocol):
    """The denoiser of one family, with what reads its prompts. Real diffusers classes inside."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes of a class-conditional network; None where prompts are read."""

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """As `Backbone.condition`; tensors (1, ...) on the device, in the network's dtype."""

    def unconditional(self) -> Conditioning:
        """As `Backbone.unconditional`; the same names and shapes as `condition` gives."""

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """As `Backbone.image_condition`."""

    @property
    def denoiser(self) -> nn.Module:
        """As `Backbone.denoiser`."""

    def with_denoiser(self, module: nn.Module) -> Self:
        """As `Backbone.with_denoiser`."""

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """As `Backbone.forward`; x_t and timesteps are float32, the output may be of any dtype."""


class LatentBackbone:
    """Satisfies `Backbone`. Holds no state of a request.

    Args:
        network: of the family.
        autoencoder: between pixels and latents.
        schedule: of the checkpoint.
        fingerprint: hash of all weights and settings that decide pixels.
        card: what is known of its making.
    """

    def __init__(
        self,
        network: Network,
        autoencoder: Autoencoder,
        schedule: Schedule,
        fingerprint: str,
        card: dict[str, object],
    ) -> None:
        self.schedule, self.fingerprint, self.card = schedule, fingerprint, card
        self._network, self._autoencoder = network, autoencoder
        self.sample_shape = autoencoder.latent_shape
        self.pixel_shape = autoencoder.pixel_shape
        self.class_names = network.class_names

    @property
    def device(self) -> torch.device:
        """Of the autoencoder, which is where latents come from and go to."""
        return self._autoencoder.device

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to scaled latents (N, C, h, w), float32: the posterior's mode."""
        return self._autoencoder.encode(pixels)

    def decode(self, samples: Tensor) -> Tensor:
        """Scaled latents (N, C, h, w) to (N, 3, H, W) in [-1, 1], float32."""
        return self._autoencoder.decode(samples)

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """One conditioning a prompt."""
        return self._network.condition(prompts, class_names)

    def unconditional(self) -> Conditioning:
        """The empty, or the negative, prompt."""
        return self._network.unconditional()

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """What a ControlNet or an IP-Adapter sees of the source."""
        return self._network.image_condition(pixels, inputs)

    @property
    def denoiser(self) -> nn.Module | None:
        """The UNet or transformer."""
        return self._network.denoiser

    def with_denoiser(self, module: nn.Module) -> "LatentBackbone":
        """The same backbone around another UNet or transformer."""
        other = copy.copy(self)
        other._network = self._network.with_denoiser(module)
        return other

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Raw output of the denoiser, one timestep a row."""
        return self._network.forward(x_t, timesteps, cond)
