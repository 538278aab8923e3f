"""Trains a classifier on a curriculum; yields a report an epoch. Logs, saves and tests nothing.

Every random number is derived from (seed, epoch), so a training that is interrupted and resumed
ends with the same weights, bit for bit, as one that is not (same hardware, versions and threads).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from curriculum.augment import augment_batch, mix_batch
from curriculum.loader import EpochLoader, ImageTable
from curriculum.mixture import Rows, epoch_class_counts, epoch_indices, epoch_pool
from curriculum.schedules.base import Progress, timeline
from curriculum.train_spec import DTYPES, TrainSpec, make_optimizer
from generators.classifiers import create_classifier, to_inputs
from generators.errors import CheckpointError, ConfigError, DataError
from generators.registry import build, content_hash

STATE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: finished epochs, 1..num_epochs.
        loss: mean over the epoch's samples, as minimised.
        learning_rate: of the last update.
        mixture: the schedule's image-guidance weights.
        synthetic_share: of the epoch's samples, 0..1.
    """

    epoch: int
    num_epochs: int
    loss: float
    learning_rate: float
    mixture: Mapping[int, float]
    synthetic_share: float


class Training:
    """A classifier in training. Iterate `run()`; `state()` between reports resumes exactly.

    Args:
        spec: of the training.
        table: at least the images that the epochs to come read.
        data: content hash of all images of the whole training, where the table is a part of them;
            default: of what is known of the table's. A state belongs to one spec and data.

    Raises:
        ConfigError: an unknown model or method, or a schedule that does not fit the epochs.
        DataError: no image, or a label outside 0..num_classes-1.
    """

    def __init__(self, spec: TrainSpec, table: ImageTable, data: str | None = None) -> None:
        self.spec, self.epoch, self.device = spec, 0, torch.device(spec.device)
        self._table = table
        self._fingerprint = content_hash([spec.fingerprint(), data or _rows_hash(table.rows)])
        self._loss = build("loss", spec.loss, "loss")
        self._schedule = build("schedule", spec.schedule, "schedule")
        timeline(self._schedule, spec.epochs)  # finds a schedule that does not fit before any work
        _check_labels(table.rows, spec.num_classes)
        if spec.precision != "float32" and not torch.amp.is_autocast_available(self.device.type):
            raise ConfigError("precision", spec.precision, f"float32 on device {spec.device!r}")
        model = create_classifier(
            spec.model,
            spec.num_classes,
            spec.channels,
            image_size=spec.image_size,
            pretrained=spec.pretrained,
            seed=spec.seed,
        )
        # Convolutions are faster with channels last, on CPUs and on GPUs with tensor cores.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer, self._decay, self._ema = make_optimizer(spec, self.model)
        scaled = spec.precision == "float16"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self._loader = EpochLoader(
            table,
            spec.batch_size,
            num_workers=spec.num_loader_workers,
            pin_memory=self.device.type == "cuda",
        )

    @property
    def result(self) -> nn.Module:
        """The network to keep: the moving average if there is one. Evaluate it after `run()`."""
        network: nn.Module = self.model if self._ema is None else self._ema.module
        return network

    def run(self, feedback: Mapping[int, float] | None = None) -> Iterator[EpochReport]:
        """Trains to the end, yielding after every epoch.

        Args:
            feedback: image-guidance percent to progress, handed to the schedule; the caller may
                change it between epochs.
        """
        while self.epoch < self.spec.epochs:
            report = self._train_epoch({} if feedback is None else feedback)
            self.epoch += 1
            yield report

    def _train_epoch(self, feedback: Mapping[int, float]) -> EpochReport:
        spec, rows, epoch = self.spec, self._table.rows, self.epoch
        progress = Progress(epoch=epoch, num_epochs=spec.epochs)
        mixture = self._schedule.mixture(progress, feedback)
        pool = epoch_pool(rows, mixture, spec.composition, spec.seed, epoch)
        counts = epoch_class_counts(rows, pool, spec.num_classes).to(self.device)
        length = spec.updates_per_epoch * spec.batch_size
        indices = epoch_indices(rows, mixture, spec.composition, length, spec.seed, epoch)
        draws = torch.Generator().manual_seed(self._random_seed(1))
        mixing = np.random.default_rng(self._random_seed(2)).beta
        total = torch.zeros((), device=self.device)
        rate = math.nan
        self.model.train()
        with self._seeded():
            for number, (images, labels) in enumerate(self._loader.batches(indices)):
                rate = self._optimizer.param_groups[0]["lr"]
                alpha = spec.mixup_alpha
                share = float(mixing(alpha, alpha)) if alpha else 1.0
                total += self._update(self._inputs(images, draws), labels, counts, share)
                updates = epoch * spec.updates_per_epoch + number + 1
                self._decay.step_update(updates)
                if self._ema is not None:
                    self._ema.update(self.model, updates)
        loss = float(total) / spec.updates_per_epoch
        if not math.isfinite(loss):
            allowed = f"a smaller value: the loss became {loss} in epoch {epoch + 1}"
            raise ConfigError("learning_rate", spec.learning_rate, allowed)
        return EpochReport(
            epoch=epoch + 1,
            num_epochs=spec.epochs,
            loss=loss,
            learning_rate=rate,
            mixture=dict(mixture),
            synthetic_share=float(np.mean(~rows.is_real[indices])),
        )

    def _inputs(self, images: Tensor, draws: torch.Generator) -> Tensor:
        unit = images.to(self.device, non_blocking=True).float() / 255
        changed = augment_batch(unit, self.spec.augment, draws)
        return to_inputs(changed, self.spec.normalization, self.spec.image_size)

    def _update(self, inputs: Tensor, labels: Tensor, counts: Tensor, share: float) -> Tensor:
        """One optimiser step; `share` below 1 mixes each image with its mirror in the batch."""
        targets = labels.to(self.device, non_blocking=True)
        if share < 1:
            inputs, targets = mix_batch(inputs, targets, self.spec.num_classes, share)
        with self._autocast():
            logits = self.model(inputs)
        loss: Tensor = self._loss.loss(logits.float(), targets, counts).mean()
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = DTYPES.get(self.spec.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Dropout and stochastic depth know the global random state only: lends it to them."""
        on_cuda = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if on_cuda else []):
            torch.manual_seed(self._random_seed(3))
            yield

    def _random_seed(self, purpose: int) -> int:
        sequence = np.random.SeedSequence([self.spec.seed, self.epoch, purpose])
        return int(sequence.generate_state(1, np.uint64)[0]) >> 1

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs; refers to live tensors: save it before training on.

        Random numbers are functions of the epoch, so no generator is in it; the learning rate is
        in the optimiser's.
        """
        return {
            "version": STATE_VERSION,
            "fingerprint": self._fingerprint,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "ema": None if self._ema is None else self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken.

        Raises:
            CheckpointError: the state of another spec, other data or another version.
        """
        if (state.get("version"), state.get("fingerprint")) != (STATE_VERSION, self._fingerprint):
            raise CheckpointError("the training state belongs to another configuration or data set")
        self.model.load_state_dict(state["model"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.epoch = state["epoch"]


def _check_labels(rows: Rows, num_classes: int) -> None:
    outside = np.flatnonzero((rows.labels < 0) | (rows.labels >= num_classes))
    if len(rows) == 0 or len(outside):
        found = f"label {rows.labels[outside[0]]}" if len(outside) else "no image"
        raise DataError(f"training needs labels in 0..{num_classes - 1}; found {found}")


def _rows_hash(rows: Rows) -> str:
    """Content hash of what is known of images without reading them."""
    digest = hashlib.sha256()
    for column in (rows.labels, rows.levels, rows.is_real, rows.is_tail):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
