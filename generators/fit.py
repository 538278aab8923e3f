"""Trains a pixel-space generator on labelled images; yields its progress, saves nothing itself.

Velocity prediction on a cosine schedule with zero terminal signal-to-noise ratio, label dropout for
classifier-free guidance, exponential moving average of the weights.
Sources: Salimans & Ho 2022, arXiv:2202.00512 (v); Nichol & Dhariwal 2021, arXiv:2102.09672
(cosine); Lin et al. 2023, arXiv:2305.08891 (zero terminal SNR); Ho & Salimans 2022 (dropout).
"""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from generators.errors import ConfigError, DataError
from generators.registry import JsonValue

NUM_TIMESTEPS = 1000


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
        label_dropout: share of images trained with the null class.
        ema_decay: of the moving average whose weights are kept.
        seed: of initial weights, batches and noise.
    """

    steps: Annotated[int, Field(ge=1)] = 2500
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    block_out_channels: tuple[int, ...] = (32, 64)
    layers_per_block: Annotated[int, Field(ge=1)] = 1
    attention: bool = True
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Progress of a fit: updates made, and the mean loss since the last report."""

    step: int
    steps: int
    loss: float


class Fit:
    """A generator in training. Iterate `run()`; `state()` between reports resumes exactly.

    Args:
        spec: how it is trained.
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, 0..num_classes-1.
        num_classes: the null class gets the index after the last one.
        device: where it trains.

    Raises:
        DataError: no images, or a side that the UNet cannot halve often enough.
        ConfigError: widths that its group normalisation cannot divide.
    """

    def __init__(
        self, spec: FitSpec, pixels: Tensor, labels: Tensor, num_classes: int, device: str
    ) -> None:
        if len(pixels) == 0:
            raise DataError("a generator cannot be fitted to 0 images")
        widths = spec.block_out_channels
        if not widths or any(width < 8 or width % 8 for width in widths):
            raise ConfigError("block_out_channels", widths, "one or more multiples of 8")
        halvings = 2 ** (len(widths) - 1)
        if pixels.shape[2] % halvings or pixels.shape[3] % halvings:
            sides = "x".join(str(n) for n in pixels.shape[2:])
            raise DataError(
                f"images of {sides} do not fit a UNet with {len(widths)} "
                f"resolutions: both sides must be multiples of {halvings}"
            )
        self.spec, self.device, self.step = spec, torch.device(device), 0
        self.num_classes = num_classes
        self._pixels, self._labels = pixels, labels
        self._generator = torch.Generator().manual_seed(spec.seed)
        self.scheduler = make_scheduler()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)  # layer initialisers know no other source
            self.network = make_network(spec, pixels.shape, num_classes).to(self.device)
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            spec.ema_decay
        )
        self._ema = torch.optim.swa_utils.AveragedModel(self.network, multi_avg_fn=average)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=spec.learning_rate)
        self._decay = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, spec.learning_rate, total_steps=spec.steps + 1, pct_start=0.05
        )

    def run(self, report_every: int = 50) -> Iterator[StepReport]:
        """Trains to the end, yielding every `report_every` updates and at the end."""
        losses: list[float] = []
        while self.step < self.spec.steps:
            losses.append(self._update())
            self.step += 1
            if self.step % report_every == 0 or self.step == self.spec.steps:
                mean = sum(losses) / len(losses)
                yield StepReport(step=self.step, steps=self.spec.steps, loss=mean)
                losses = []

    def _update(self) -> float:
        spec, draw = self.spec, self._generator
        index = torch.randint(len(self._pixels), (spec.batch_size,), generator=draw)
        x_0 = (self._pixels[index].to(self.device).float() / 127.5) - 1
        labels = self._labels[index].clone()
        dropped = torch.rand(spec.batch_size, generator=draw) < spec.label_dropout
        labels[dropped] = self.num_classes
        timesteps = torch.randint(NUM_TIMESTEPS, (spec.batch_size,), generator=draw)
        noise = torch.randn(x_0.shape, generator=draw).to(self.device)
        timesteps, labels = timesteps.to(self.device), labels.to(self.device)
        x_t = self.scheduler.add_noise(x_0, noise, timesteps)
        target = self.scheduler.get_velocity(x_0, noise, timesteps)
        output = self.network(x_t, timesteps, class_labels=labels).sample
        loss = nn.functional.mse_loss(output, target)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._decay.step()
        self._ema.update_parameters(self.network)
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs, copied; tensors and plain values only."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "ema": self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "decay": self._decay.state_dict(),
            "generator": self._generator.get_state(),
        }
        return copy.deepcopy(state)  # state_dict() shares memory with the network it is of

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self._ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._decay.load_state_dict(state["decay"])
        self._generator.set_state(state["generator"])

    def save(self, folder: Path, card: dict[str, JsonValue]) -> None:
        """Writes the averaged network in diffusers' format, with its card."""
        folder.mkdir(parents=True, exist_ok=True)
        network: Any = self._ema.module
        network.save_pretrained(folder, safe_serialization=True)
        (folder / "scheduler_config.json").write_text(self.scheduler.to_json_string())
        part = folder / "card.json.part"  # the card marks a complete folder
        part.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
        part.replace(folder / "card.json")


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
    """A class-conditional UNet2DModel for images of `shape` (N, C, H, W)."""
    from diffusers import UNet2DModel

    depth = len(spec.block_out_channels)
    last = "AttnDownBlock2D" if spec.attention else "DownBlock2D"
    first = "AttnUpBlock2D" if spec.attention else "UpBlock2D"
    network: nn.Module = UNet2DModel(
        sample_size=(shape[2], shape[3]),
        in_channels=shape[1],
        out_channels=shape[1],
        block_out_channels=spec.block_out_channels,
        layers_per_block=spec.layers_per_block,
        down_block_types=("DownBlock2D",) * (depth - 1) + (last,),
        up_block_types=(first,) + ("UpBlock2D",) * (depth - 1),
        norm_num_groups=max(1, math.gcd(*spec.block_out_channels) // 4),
        attention_head_dim=8,
        num_class_embeds=num_classes + 1,
        add_attention=spec.attention,
    )
    return network
