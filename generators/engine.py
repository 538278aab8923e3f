"""Packs the model calls of many programs into full batches (continuous batching).

Knows nothing of samplers, guidance or images: rows of different requests, timesteps, step counts
and scales share a batch; only shapes decide. Programs are admitted lazily while the fullest pack is
smaller than two batches, so a finished request's place is taken at once. When no more come, the
noisiest rows go first: requests with many steps left catch up while there are enough rows, so that
the last batches are full too.

The host never waits for the device here: batches are built, evaluated and handed back as tensors on
the device while earlier kernels still run. It waits where an image leaves the device, and nowhere
else.
"""

import warnings
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.errors import ConfigError, SampleRejected
from generators.prediction import converter
from generators.program import (
    Answer,
    Call,
    Conditioning,
    EnergyCall,
    ModelCall,
    Network,
    Prediction,
    Program,
    Reading,
)
from generators.stopwatch import Stopwatch
from generators.transfer import to_device

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
NETWORK = "network"
"""The engine's stage in a stopwatch: packing, the forward pass, and its conversion."""
ENERGY = "energy"
"""Likewise: packing, the energy, and its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished(Generic[K, T]):
    """The end of one program: its value, or why it was rejected."""

    key: K
    value: T | None
    rejected: SampleRejected | None
    num_model_calls: int
    num_readings: int = 0


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """Counts since the engine was made.

    Attributes:
        num_model_calls: rows that were asked for and evaluated.
        num_batches: forward passes.
        capacity: rows these passes had room for.
        queue: rows that waited when the last batch was taken, the batch included.
        queued: the same, added up over all batches.
        num_readings: rows that energies were asked about.
        num_reading_batches: passes through energies.
    """

    num_model_calls: int = 0
    num_batches: int = 0
    capacity: int = 0
    queue: int = 0
    queued: int = 0
    num_readings: int = 0
    num_reading_batches: int = 0

    @property
    def batch_fill(self) -> float:
        """Mean rows a batch as a share of the largest batch, 0..1."""
        return self.num_model_calls / max(1, self.capacity)


@dataclass(slots=True, eq=False)
class _Running:
    """A program between two answers."""

    key: Any
    program: Program[Any]
    calls: tuple[Call, ...] = ()
    answers: list[Answer | None] = field(default_factory=list)
    missing: int = 0
    num_model_calls: int = 0
    num_readings: int = 0


Row = tuple[_Running, int]
"""A program and which of its calls."""

AHEAD = 2
"""Batches of rows that are kept under way, as long as programs come."""


class Engine:
    """Runs programs on one backbone.

    Args:
        backbone: the network.
        max_batch_size: most rows in one evaluation; >= 1. Halved, with a warning, when the device
            runs out of memory; the rows concerned are evaluated again.
        pad: fill up batches that are not full, so that every evaluation has the same shape. Kernels
            then treat a row the same whatever its neighbours: its result does not depend on the
            packing, bit for bit.
        watch: where the seconds inside the network are added up.
    """

    def __init__(
        self,
        backbone: Backbone,
        max_batch_size: int,
        *,
        pad: bool = False,
        watch: Stopwatch | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise ConfigError("max_batch_size", max_batch_size, "an integer >= 1")
        self.backbone, self.max_batch_size, self.pad = backbone, max_batch_size, pad
        self.stats, self.watch = EngineStats(), watch or Stopwatch(backbone.device)

    def run(self, programs: Iterable[tuple[K, Program[T]]]) -> Iterator[Finished[K, T]]:
        """Runs programs, drawn lazily, and yields each as it finishes, in no promised order.

        A program that raises `SampleRejected` ends alone; any other error ends the run.
        """
        source = iter(programs)
        packs: dict[Hashable, deque[Row]] = defaultdict(deque)
        exhausted = False
        while True:
            while not exhausted and _fullest(packs) < AHEAD * self.max_batch_size:
                item = next(source, None)
                if item is None:
                    exhausted = True
                    break
                done = self._advance(_Running(*item), None, packs)
                if done:
                    yield done
            if not any(packs.values()):
                return
            self.stats.queue = sum(len(pack) for pack in packs.values())
            self.stats.queued += self.stats.queue
            rows = self._take(max(packs.values(), key=len), noisiest=exhausted)
            for (running, slot), prediction in zip(rows, self._evaluate(rows), strict=True):
                running.answers[slot] = prediction
                running.missing -= 1
                if running.missing == 0:
                    done = self._advance(running, running.answers, packs)
                    if done:
                        yield done

    def _take(self, pack: deque[Row], *, noisiest: bool) -> list[Row]:
        """A batch of a pack: those that wait longest, or the noisiest."""
        if noisiest and len(pack) > self.max_batch_size:
            ordered = sorted(pack, key=_noise, reverse=True)
            pack.clear()
            pack.extend(ordered)
        return [pack.popleft() for _ in range(min(len(pack), self.max_batch_size))]

    def _advance(
        self,
        running: _Running,
        answers: list[Answer | None] | None,
        packs: dict[Hashable, deque[Row]],
    ) -> Finished[Any, Any] | None:
        """Sends a program its answers; queues its next calls or returns its end."""
        value, rejected = None, None
        try:
            with torch.inference_mode():
                if answers is None:
                    running.calls = next(running.program)
                else:
                    running.calls = running.program.send(tuple(a for a in answers if a))
                while not running.calls:  # asked for nothing: there is nothing to wait for
                    running.calls = running.program.send(())
            running.answers = [None] * len(running.calls)
            running.missing = len(running.calls)
            for slot, call in enumerate(running.calls):
                packs[call.pack].append((running, slot))
                if isinstance(call, ModelCall):
                    running.num_model_calls += 1
                else:
                    running.num_readings += 1
            return None
        except StopIteration as stop:
            value = stop.value
        except SampleRejected as error:
            rejected = error
        return Finished(
            key=running.key,
            value=value,
            rejected=rejected,
            num_model_calls=running.num_model_calls,
            num_readings=running.num_readings,
        )

    def _evaluate(self, rows: list[Row]) -> list[Answer]:
        """Answers to the rows, in as many batches as the device's memory asks for."""
        calls = [running.calls[slot] for running, slot in rows]
        answers: list[Answer] = []
        while len(answers) < len(calls):
            part = calls[len(answers) : len(answers) + self.max_batch_size]
            try:
                answers += self._answer(part)
            except torch.OutOfMemoryError:
                if self.max_batch_size == 1:
                    raise
                self._halve()
        return answers

    def _answer(self, calls: list[Call]) -> list[Answer]:
        """One batch; its calls are of one kind."""
        missing = self.max_batch_size - len(calls) if self.pad else 0
        padded = calls + calls[-1:] * missing
        if isinstance(padded[0], EnergyCall):
            return self._read([call for call in padded if isinstance(call, EnergyCall)], len(calls))
        return self._forward([call for call in padded if isinstance(call, ModelCall)], len(calls))

    def _halve(self) -> None:
        self.max_batch_size //= 2
        warnings.warn(
            f"out of memory: batches have {self.max_batch_size} rows from here on", stacklevel=2
        )
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, calls: list[ModelCall], count: int) -> list[Answer]:
        """One forward pass; `count` rows are wanted. On CUDA it only launches kernels."""
        network: Network = calls[0].network or self.backbone
        with self.watch.device_time(NETWORK):
            x_t = torch.stack([call.x_t for call in calls])
            scales = to_device(_scales(calls), self.backbone.device)
            output = network.forward(x_t, scales[:, 0], _joined([c.cond for c in calls])).float()
            alpha, sigma = scales[:, 1].view(-1, 1, 1, 1), scales[:, 2].view(-1, 1, 1, 1)
            x_0, eps = converter(network.schedule.prediction_type)(x_t, output, alpha, sigma)
        self.stats.num_batches += 1
        self.stats.num_model_calls += count
        self.stats.capacity += self.max_batch_size
        rows = zip(x_0.unbind(), eps.unbind(), strict=True)
        return [Prediction(x_0=a, eps=b) for a, b in islice(rows, count)]

    def _read(self, calls: list[EnergyCall], count: int) -> list[Answer]:
        """One pass through an energy and, where gradients are wanted, one back."""
        first = calls[0]
        with self.watch.device_time(ENERGY), torch.inference_mode(mode=False):
            # Copies: what was made in inference mode has no gradients.
            x = torch.stack([call.x for call in calls]).clone()
            timesteps = to_device(_scales(calls), self.backbone.device)[:, 0].clone()
            inputs = _joined([call.inputs for call in calls])
            with torch.set_grad_enabled(first.gradient):
                x.requires_grad_(first.gradient)
                values = first.energy(x, timesteps, {k: v.clone() for k, v in inputs.items()})
            gradients: Sequence[Tensor | None] = [None] * count
            if first.gradient:
                (found,) = torch.autograd.grad(values.sum(), x)
                gradients = found.float().unbind()[:count]
        self.stats.num_reading_batches += 1
        self.stats.num_readings += count
        rows = values.detach().float().unbind()[:count]
        return [Reading(value=v, gradient=g) for v, g in zip(rows, gradients, strict=True)]


def _scales(calls: Sequence[Call]) -> Tensor:
    """(N, 3) float32: timestep, alpha and sigma of each row."""
    rows = [(call.level.timestep, call.level.alpha, call.level.sigma) for call in calls]
    return torch.tensor(rows, dtype=torch.float32)


def _joined(conditionings: Sequence[Conditioning]) -> Conditioning:
    """The conditionings of the rows, one below the other."""
    return {name: torch.cat([each[name] for each in conditionings]) for name in conditionings[0]}


def _fullest(packs: dict[Hashable, deque[Row]]) -> int:
    return max((len(pack) for pack in packs.values()), default=0)


def _noise(row: Row) -> float:
    running, slot = row
    return running.calls[slot].level.sigma
