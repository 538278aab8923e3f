"""Trains a pixel-space generator on labelled images; yields its progress, saves nothing itself.

Velocity prediction on a cosine schedule with zero terminal signal-to-noise ratio, label dropout for
classifier-free guidance, exponential moving average of the weights.
Sources: Salimans & Ho 2022, arXiv:2202.00512 (v); Nichol & Dhariwal 2021, arXiv:2102.09672
(cosine); Lin et al. 2023, arXiv:2305.08891 (zero terminal SNR); Ho & Salimans 2022 (dropout).
"""

import copy
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.errors import DataError, check_loss
from generators.fit_spec import (
    NUM_TIMESTEPS,
    FitSpec,
    autocast,
    make_network,
    make_scheduler,
    predict,
)
from generators.objectives.base import FitBatch, Objective
from generators.registry import JsonValue, build
from generators.seeding import seeded


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
    """

    def __init__(
        self, spec: FitSpec, pixels: Tensor, labels: Tensor, num_classes: int, device: str
    ) -> None:
        if len(pixels) == 0:
            raise DataError("a generator cannot be fitted to 0 images")
        spec.check_sides(*pixels.shape[2:])
        self.spec, self.device, self.step = spec, torch.device(device), 0
        self.num_classes = num_classes
        self._pixels, self._labels = pixels, labels
        self._class_counts = torch.bincount(labels, minlength=num_classes)
        self._objective: Objective = build("objective", spec.objective, "objective")
        self._generator = torch.Generator().manual_seed(spec.seed)
        self.scheduler = make_scheduler()
        with seeded(spec.seed):
            network = make_network(spec, pixels.shape, num_classes).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            spec.ema_decay
        )
        self._ema = torch.optim.swa_utils.AveragedModel(self.network, multi_avg_fn=average)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=spec.learning_rate)
        self._decay = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, spec.learning_rate, total_steps=spec.steps + 1, pct_start=0.05
        )

    def run(self, report_every: int = 50) -> Iterator[StepReport]:
        """Trains to the end, yielding every `report_every` updates and at the end.

        Raises:
            ConfigError: the loss is no number any more.
        """
        losses: list[float] = []
        while self.step < self.spec.steps:
            losses.append(self._update())
            self.step += 1
            if self.step % report_every == 0 or self.step == self.spec.steps:
                mean, spec = sum(losses) / len(losses), self.spec
                check_loss(mean, spec.learning_rate, spec.precision, f"by step {self.step}")
                yield StepReport(step=self.step, steps=self.spec.steps, loss=mean)
                losses = []

    def _update(self) -> float:
        batch = self._batch()
        see = partial(predict, self.network, self.spec.patch_size)
        with self._seeded(), autocast(self.device, self.spec.precision):
            loss = self._objective.loss(see, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._decay.step()
        self._ema.update_parameters(self.network)
        return float(loss.detach())

    def _batch(self) -> FitBatch:
        spec, draw = self.spec, self._generator
        index = torch.randint(len(self._pixels), (spec.batch_size,), generator=draw)
        x_0 = (self._pixels[index].to(self.device).float() / 127.5) - 1
        labels = self._labels[index].clone()
        dropped = torch.rand(spec.batch_size, generator=draw) < spec.label_dropout
        labels[dropped] = self.num_classes
        timesteps = torch.randint(spec.num_trained_timesteps, (spec.batch_size,), generator=draw)
        noise = torch.randn(x_0.shape, generator=draw).to(self.device)
        if spec.horizontal_flip:
            mirrored = (torch.rand(spec.batch_size, generator=draw) < 0.5).to(self.device)
            x_0 = torch.where(mirrored[:, None, None, None], x_0.flip(3), x_0)
        timesteps, labels = timesteps.to(self.device), labels.to(self.device)
        return FitBatch(
            x_t=self.scheduler.add_noise(x_0, noise, timesteps),
            timesteps=timesteps,
            labels=labels,
            target=self.scheduler.get_velocity(x_0, noise, timesteps),
            null_class=self.num_classes,
            class_counts=self._class_counts,
            num_timesteps=NUM_TIMESTEPS,
            draws=draw,
        )

    def _seeded(self) -> AbstractContextManager[None]:
        """Dropout knows the global random state only: lends it to it, by step."""
        if not self.spec.dropout:
            return nullcontext()
        return seeded((self.spec.seed << 32) + self.step, self.device)

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
        """Writes the averaged network in diffusers' format, with its card.

        Args:
            folder: to make.
            card: what a reader needs to know; how the network is used is added.
        """
        folder.mkdir(parents=True, exist_ok=True)
        network: Any = copy.deepcopy(self._ema.module).to(memory_format=torch.contiguous_format)
        network.save_pretrained(folder, safe_serialization=True)
        (folder / "scheduler_config.json").write_text(self.scheduler.to_json_string())
        part = folder / "card.json.part"  # the card marks a complete folder
        own = {name: getattr(self.spec, name) for name in ("patch_size", "least_image_guidance")}
        part.write_text(json.dumps({**card, **own}, indent=1, sort_keys=True) + "\n")
        part.replace(folder / "card.json")
