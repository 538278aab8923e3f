"""What the engine and the methods need from a network, whatever it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from generators.errors import ConfigError
from generators.noise import Schedule
from generators.program import Conditioning
from generators.records import ImageInputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageConditioning:
    """Entries that join a request's conditionings.

    Attributes:
        cond: for the conditional evaluation.
        uncond: for the unconditional one.
    """

    cond: Conditioning
    uncond: Conditioning


def no_image_inputs(inputs: ImageInputs) -> NoReturn:
    """Ends `image_condition` of networks without such inputs."""
    allowed = "nothing: this backbone has neither a ControlNet nor an IP-Adapter"
    raise ConfigError("generation.image_inputs", inputs.as_json(), allowed)


class Backbone(Protocol):
    """A diffusion network with its schedule, encoder and decoder. Holds no state of a request."""

    @property
    def schedule(self) -> Schedule:
        """The noise levels it was trained on."""

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one sample in the space it denoises."""

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """(channels, H, W) of the images it makes."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes it can be conditioned on; None when any text will do."""

    @property
    def fingerprint(self) -> str:
        """Content hash of weights and settings: part of every request's key."""

    @property
    def card(self) -> dict[str, object]:
        """What is known of its making: `knowledge` (text), `seed`, `seconds`, losses, ..."""

    @property
    def device(self) -> torch.device:
        """Where it runs, and where `condition` puts its tensors."""

    @property
    def denoiser(self) -> nn.Module | None:
        """The module that denoises, for methods that change what happens inside; None for none."""

    def with_denoiser(self, module: nn.Module) -> "Backbone":
        """The same backbone around another module of the kind; shares everything else."""

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, channels, H, W) in [-1, 1] to (N, C, h, w)."""

    def decode(self, samples: Tensor) -> Tensor:
        """(N, C, h, w) to (N, channels, H, W) in [-1, 1]."""

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """One conditioning a prompt/class pair; raises ConfigError for an unknown class."""

    def unconditional(self) -> Conditioning:
        """The null conditioning of guidance; raises ConfigError if there is none."""

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """What the network sees of a source beside its noised start.

        Args:
            pixels: (channels, H, W) of `pixel_shape` in [-1, 1].
            inputs: which inputs, how strong; not the default (nothing).

        Raises:
            ConfigError: an input this network does not have.
        """

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """Raw output (N, C, h, w) for x_t (N, C, h, w) and timesteps (N,), one a row."""


class BackboneSpec(Protocol):
    """A backbone method: its parameters, and how to load it. Pickles; holds no tensors."""

    def check(self) -> None:
        """Raises what `load` would, as far as that shows without loading; takes no time."""

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """Steps a level runs; `num_denoising_steps` unless the checkpoint's schedule differs."""

    def load(self, device: str) -> Backbone:
        """Loads the network; raises CheckpointError with what is missing."""
