"""Trains a classifier on a curriculum; yields a report an epoch. Logs, saves and tests nothing.

Every random number is derived from (seed, epoch), so a training that is interrupted and resumed
ends with the same weights, bit for bit, as one that is not (same hardware, versions and threads).

Several processes train one classifier as one does, but for rounding: they plan the same epochs and
batches, and each sends its part of every batch through the network. Dropout and stochastic depth
alone are other draws then: a process draws for its own part.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from curriculum.augment import augment_batch
from curriculum.augmentations.base import Augmentation
from curriculum.epoch import plan_epoch, uniform_rows, with_partners
from curriculum.feedback import CellGain, cell_progress, learning_progress
from curriculum.loader import EpochLoader, ImageTable
from curriculum.losses.base import Loss, LossContext
from curriculum.mixings.base import MixContext, Mixing
from curriculum.mixture import Indices, Rows
from curriculum.samplings.base import Sampling
from curriculum.schedules.base import CurriculumSchedule, FeedbackSpec, Progress, timeline
from curriculum.team import ALONE, Team, unwrapped
from curriculum.train_spec import DTYPES, TrainSpec, make_optimizer
from curriculum.viewer import Viewer
from generators.classifiers import create_classifier, to_inputs
from generators.errors import CheckpointError, ConfigError, DataError, check_loss
from generators.heads import with_head
from generators.registry import build, content_hash
from generators.seeding import seeded

STATE_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: finished epochs, 1..num_epochs.
        loss: mean over the epoch's samples, as minimised.
        learning_rate: of the last update.
        mixture: the schedule's image-guidance weights.
        feedback: image-guidance percent to the progress measured before it; empty if none was.
        gains: likewise, by class, where the schedule asks for it.
        strengths: of each class's own augmentation.
        synthetic_share: of the epoch's samples, 0..1.
    """

    epoch: int
    num_epochs: int
    loss: float
    learning_rate: float
    mixture: Mapping[int, float]
    feedback: Mapping[int, float]
    gains: tuple[CellGain, ...]
    strengths: tuple[int, ...]
    synthetic_share: float


class Training:
    """A classifier in training. Iterate `run()`; `state()` between reports resumes exactly.

    Args:
        spec: of the training.
        table: at least the images that the epochs to come read.
        data: content hash of all images of the whole training, where the table is a part of them;
            default: of what is known of the table's. A state belongs to one spec and data, and to
            teams of any size.
        team: the processes that train it, each with the same of everything else.

    Raises:
        ConfigError: an unknown model or method, a schedule that does not fit the epochs, or a batch
            that the team cannot share.
        DataError: no image, or a label outside 0..num_classes-1.
    """

    def __init__(
        self, spec: TrainSpec, table: ImageTable, data: str | None = None, team: Team = ALONE
    ) -> None:
        self.spec, self.epoch, self.device = spec, 0, torch.device(spec.device)
        self._table, self._team, self._part = table, team, team.part(spec.batch_size)
        self._fingerprint = content_hash([spec.fingerprint(), data or table.rows.fingerprint()])
        self._loss: Loss = build("loss", spec.loss, "loss")
        self._sampling: Sampling = build("sampling", spec.sampling, "sampling")
        self._augmentation: Augmentation = build("augmentation", spec.augmentation, "augmentation")
        self._strengths = np.zeros(spec.num_classes, dtype=np.int64)
        self._mixing: Mixing = build("mixing", spec.mixing, "mixing")
        self._schedule: CurriculumSchedule = build("schedule", spec.schedule, "schedule")
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
        model = with_head(model, self._loss.head, spec.seed, pretrained=spec.pretrained)
        # Convolutions are faster with channels last, on CPUs and on GPUs with tensor cores.
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = team.wrap(model, self.device)
        self.model = unwrapped(self._network)
        self._optimizer, self._decay, self._ema = make_optimizer(spec, self.model)
        scaled = spec.precision == "float16"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        # What is mixed, or drawn from one generator, needs the other processes' images as well.
        self._is_mixed = spec.mixing.name != "none"
        together = self._is_mixed or self._augmentation.is_active
        self._num_read = spec.batch_size * (1 if self._mixing.partner_exponent is None else 2)
        self._loader = EpochLoader(
            table,
            self._num_read,
            num_workers=spec.num_loader_workers,
            pin_memory=self.device.type == "cuda",
            part=slice(None) if together else self._part,
        )
        looking = spec.looking(str(self.device))
        self._viewer = Viewer(table=table, spec=looking, team=team)

    @property
    def result(self) -> nn.Module:
        """The network to keep: the moving average if there is one. Evaluate it after `run()`."""
        network: nn.Module = self.model if self._ema is None else self._ema.module
        return network

    def run(self) -> Iterator[EpochReport]:
        """Trains to the end, yielding after every epoch."""
        while self.epoch < self.spec.epochs:
            report = self._train_epoch()
            self.epoch += 1
            yield report

    def _train_epoch(self) -> EpochReport:
        spec, rows, epoch = self.spec, self._table.rows, self.epoch
        progress = Progress(epoch=epoch, num_epochs=spec.epochs)
        self._done, self._total = 0, torch.zeros((), device=self.device)
        self._gains: tuple[CellGain, ...] = ()
        self.model.train()
        # Dropout and stochastic depth.
        own = () if self._team.leads else (self._team.rank,)
        with seeded(self._random_seed(3, *own), self.device):
            if self._augmentation.is_active:
                rng, before = np.random.default_rng(self._random_seed(4)), self._strengths
                self._strengths = self._viewer.strengths(
                    self.model, self._augmentation, before, rng
                )
            wanted = self._schedule.feedback
            feedback = {} if wanted is None else self._measure(wanted, progress)
            mixture = self._schedule.mixture(progress, feedback)
            plan = plan_epoch(rows, mixture, spec, self._sampling, progress)
            indices = plan.indices[self._done * spec.batch_size :]
            self._fit(indices, plan.class_counts)
        loss = float(self._total) / spec.updates_per_epoch
        check_loss(loss, spec.learning_rate, spec.precision, f"in epoch {epoch + 1}")
        return EpochReport(
            epoch=epoch + 1,
            num_epochs=spec.epochs,
            loss=loss,
            learning_rate=self._rate,
            mixture=dict(mixture),
            feedback=feedback,
            gains=self._gains,
            strengths=tuple(self._strengths.tolist()),
            synthetic_share=float(np.sum(~rows.is_real[indices])) / len(plan.indices),
        )

    def _measure(self, wanted: FeedbackSpec, progress: Progress) -> Mapping[int, float]:
        """Trains shortly on uniform real images; what that was worth on the held-out ones."""
        rows, spec = self._table.rows, self.spec
        held_out = rows.held_out()
        if len(held_out) == 0:
            return {}
        before = self._viewer.true_class(self.model, held_out)
        updates = max(1, spec.updates_per_epoch * wanted.probe_percent // 100)
        probe = uniform_rows(rows, updates * spec.batch_size, spec.seed, progress.epoch)
        counts = np.bincount(rows.labels[rows.is_real], minlength=spec.num_classes)
        self._fit(probe, torch.from_numpy(counts))
        after = self._viewer.true_class(self.model, held_out)
        levels = rows.levels[held_out]
        if wanted.by_class:
            self._gains = cell_progress(rows.labels[held_out], levels, before, after)
        return learning_progress(levels, before, after)

    def _fit(self, indices: Indices, class_counts: Tensor) -> None:
        """Updates on these rows in their order."""
        spec, purpose = self.spec, 1 + 10 * self._done
        draws = torch.Generator().manual_seed(self._random_seed(purpose))
        context = MixContext(
            class_counts=class_counts.to(self.device),
            progress=self.epoch / spec.epochs,
            rng=np.random.default_rng(self._random_seed(purpose + 1)),
        )
        weight, exponent = spec.composition.synthetic_weight, self._mixing.partner_exponent
        if exponent is not None:
            rng = np.random.default_rng(self._random_seed(purpose + 4))
            indices = with_partners(self._table.rows, indices, spec.batch_size, exponent, rng)
        for images, labels, numbers in self._loader.batches(indices):
            own = numbers[: spec.batch_size]
            real = torch.from_numpy(self._table.rows.is_real)[own].to(self.device)
            weights = torch.where(real, 1.0, weight)
            self._rate = self._optimizer.param_groups[0]["lr"]
            if self._augmentation.is_active:
                strengths = self._strengths[labels.numpy()]
                images = self._augmentation.apply(images, strengths, context.rng)
                images = images if self._is_mixed else images[self._part]
            inputs = self._inputs(images, draws)
            self._total += self._update(inputs, labels, weights, context)
            self._done += 1
            updates = self.epoch * spec.updates_per_epoch + self._done
            self._decay.step_update(updates)
            if self._ema is not None:
                self._ema.update(self.model, updates)

    def _inputs(self, images: Tensor, draws: torch.Generator) -> Tensor:
        unit = images.to(self.device, non_blocking=True).float() / 255
        part = slice(None) if self._is_mixed else self._part
        changed = augment_batch(unit, self.spec.augment, draws, self._num_read, part)
        return to_inputs(changed, self.spec.normalization, self.spec.image_size)

    def _update(
        self, inputs: Tensor, labels: Tensor, weights: Tensor, context: MixContext
    ) -> Tensor:
        """One optimiser step; returns the mean loss."""
        labels = labels.to(self.device, non_blocking=True)
        inputs, targets = self._mixing.mix(inputs, labels, context)
        inputs = inputs[self._part] if self._is_mixed else inputs
        with self._autocast():
            own = self._network(inputs)
        # The loss of the whole batch in every process: some losses look at all of its rows.
        logits = self._team.gather(own.float())
        known = LossContext(class_counts=context.class_counts, progress=context.progress)
        loss = (weights * self._loss.loss(logits, targets, known)).mean()
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = DTYPES.get(self.spec.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def _random_seed(self, *purpose: int) -> int:
        sequence = np.random.SeedSequence([self.spec.seed, self.epoch, *purpose])
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
            "strengths": self._strengths.tolist(),
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
        self._strengths = np.array(state["strengths"], dtype=np.int64)
        self.epoch = state["epoch"]


def _check_labels(rows: Rows, num_classes: int) -> None:
    outside = np.flatnonzero((rows.labels < 0) | (rows.labels >= num_classes))
    if len(rows) == 0 or len(outside):
        found = f"label {rows.labels[outside[0]]}" if len(outside) else "no image"
        raise DataError(f"training needs labels in 0..{num_classes - 1}; found {found}")
