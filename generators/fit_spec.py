"""What the training of a pixel-space generator depends on, and the network it asks for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from generators.errors import ConfigError, DataError
from generators.registry import JsonValue, MethodSpec, build

NUM_TIMESTEPS = 1000


def _method(value: JsonValue) -> JsonValue:
    """`{name: x, a: 1}` or `x`, as configs have it, to the fields of a spec."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and "params" not in value:
        return {
            "name": value.get("name"),
            "params": {k: v for k, v in value.items() if k != "name"},
        }
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSpec:
    """How a generator is trained.

    Attributes:
        steps: optimiser updates.
        batch_size: images an update.
        learning_rate: AdamW's peak; linear warm-up over 5 % of the steps, cosine to 0.
        block_out_channels: widths of the UNet's resolutions.
        layers_per_block: residual layers a resolution.
        attention: self-attention at the lowest resolution.
        dropout: in the residual layers.
        patch_size: side of the squares of pixels that the network sees as one pixel of more
            channels; 2 makes it about 4 times as fast.
        label_dropout: share of images trained with the null class.
        horizontal_flip: mirror half of the images.
        least_image_guidance: percent; noise levels that only lower image guidance needs are not
            trained, and such images are refused.
        objective: what is minimised.
        ema_decay: of the moving average whose weights are kept.
        precision: of the network's passes; weights are float32.
        seed: of initial weights, batches and noise.
    """

    steps: Annotated[int, Field(ge=1)] = 2500
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    block_out_channels: tuple[int, ...] = (32, 64)
    layers_per_block: Annotated[int, Field(ge=1)] = 1
    attention: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patch_size: Annotated[int, Field(ge=1)] = 1
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    horizontal_flip: bool = False
    least_image_guidance: Annotated[int, Field(ge=0, lt=100)] = 0
    objective: Annotated[MethodSpec, BeforeValidator(_method)] = field(
        default_factory=lambda: MethodSpec(name="denoising")
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        build("objective", self.objective, "objective")
        widths = self.block_out_channels
        if not widths or any(width < 8 or width % 8 for width in widths):
            raise ConfigError("block_out_channels", widths, "one or more multiples of 8")

    @property
    def num_trained_timesteps(self) -> int:
        """Timesteps 0..n-1 are trained."""
        return NUM_TIMESTEPS * (100 - self.least_image_guidance) // 100

    def check_sides(self, height: int, width: int) -> None:
        """Refuses images that the network cannot halve as often as it does.

        Raises:
            DataError: naming the sides.
        """
        multiple = self.patch_size * 2 ** (len(self.block_out_channels) - 1)
        if height % multiple or width % multiple:
            raise DataError(
                f"images of {height}x{width} do not fit a UNet with "
                f"{len(self.block_out_channels)} resolutions and patches of {self.patch_size}: "
                f"both sides must be multiples of {multiple}"
            )


def make_scheduler() -> Any:
    """Cosine betas, v-prediction, zero terminal SNR, trailing timesteps."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def make_network(spec: FitSpec, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A class-conditional UNet2DModel for images of `shape` (N, C, H, W), for `predict`."""
    from diffusers import UNet2DModel

    depth, patch = len(spec.block_out_channels), spec.patch_size
    last = "AttnDownBlock2D" if spec.attention else "DownBlock2D"
    first = "AttnUpBlock2D" if spec.attention else "UpBlock2D"
    network: nn.Module = UNet2DModel(
        sample_size=(shape[2] // patch, shape[3] // patch),
        in_channels=shape[1] * patch**2,
        out_channels=shape[1] * patch**2,
        block_out_channels=spec.block_out_channels,
        layers_per_block=spec.layers_per_block,
        down_block_types=("DownBlock2D",) * (depth - 1) + (last,),
        up_block_types=(first,) + ("UpBlock2D",) * (depth - 1),
        norm_num_groups=max(1, math.gcd(*spec.block_out_channels) // 4),
        attention_head_dim=8,
        dropout=spec.dropout,
        num_class_embeds=num_classes + 1,
        add_attention=spec.attention,
    )
    return network


def predict(
    network: Any, patch_size: int, x_t: Tensor, timesteps: Tensor, labels: Tensor | None
) -> Tensor:
    """Output of a UNet2DModel that sees patches of pixels as pixels, (N, C, H, W)."""
    if patch_size == 1:
        output: Tensor = network(x_t, timesteps, class_labels=labels).sample
        return output
    patches = functional.pixel_unshuffle(x_t, patch_size)
    seen = network(patches, timesteps, class_labels=labels).sample
    return functional.pixel_shuffle(seen, patch_size)


def autocast(device: torch.device, precision: str) -> Any:
    """The context of the network's passes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
