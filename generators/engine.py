"""Packs the model calls of many programs into full batches (continuous batching).

Knows nothing of samplers, guidance or images: rows of different requests, timesteps, step counts
and scales share a batch; only shapes decide. Programs are admitted lazily while the fullest pack is
smaller than a batch, so a finished request's place is taken at once.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.errors import ConfigError, SampleRejected
from generators.noise import PredictionType
from generators.program import ModelCall, Prediction, Program

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished(Generic[K, T]):
    """The end of one program: its value, or why it was rejected."""

    key: K
    value: T | None
    rejected: SampleRejected | None
    num_model_calls: int


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """Counts since the engine was made; `seconds` is time inside the network."""

    num_model_calls: int = 0
    num_batches: int = 0
    seconds: float = 0.0

    def batch_fill(self, max_batch_size: int) -> float:
        """Mean rows a batch as a share of the largest batch, 0..1."""
        return self.num_model_calls / max(1, self.num_batches * max_batch_size)


@dataclass(slots=True, eq=False)
class _Running:
    """A program between two answers."""

    key: Any
    program: Program[Any]
    calls: tuple[ModelCall, ...] = ()
    answers: list[Prediction | None] = field(default_factory=list)
    missing: int = 0
    num_model_calls: int = 0


class Engine:
    """Runs programs on one backbone.

    Args:
        backbone: the network.
        max_batch_size: most rows in one evaluation; >= 1.
    """

    def __init__(self, backbone: Backbone, max_batch_size: int) -> None:
        if max_batch_size < 1:
            raise ConfigError("max_batch_size", max_batch_size, "an integer >= 1")
        self.backbone, self.max_batch_size = backbone, max_batch_size
        self.stats = EngineStats()
        self._convert = _converter(backbone.schedule.prediction_type)

    def run(self, programs: Iterable[tuple[K, Program[T]]]) -> Iterator[Finished[K, T]]:
        """Runs programs, drawn lazily, and yields each as it finishes, in no promised order.

        A program that raises `SampleRejected` ends alone; any other error ends the run.
        """
        source = iter(programs)
        packs: dict[Hashable, deque[tuple[_Running, int]]] = defaultdict(deque)
        exhausted = False
        while True:
            while not exhausted and _fullest(packs) < self.max_batch_size:
                item = next(source, None)
                if item is None:
                    exhausted = True
                    break
                done = self._advance(_Running(*item), None, packs)
                if done:
                    yield done
            if not any(packs.values()):
                return
            pack = max(packs.values(), key=len)
            rows = [pack.popleft() for _ in range(min(len(pack), self.max_batch_size))]
            for (running, slot), prediction in zip(rows, self._evaluate(rows), strict=True):
                running.answers[slot] = prediction
                running.missing -= 1
                if running.missing == 0:
                    done = self._advance(running, running.answers, packs)
                    if done:
                        yield done

    def _advance(
        self,
        running: _Running,
        answers: list[Prediction | None] | None,
        packs: dict[Hashable, deque[tuple[_Running, int]]],
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
            running.num_model_calls += running.missing
            for slot, call in enumerate(running.calls):
                packs[_shape_key(call)].append((running, slot))
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
        )

    @torch.inference_mode()
    def _evaluate(self, rows: list[tuple[_Running, int]]) -> list[Prediction]:
        """One forward pass over the rows' calls."""
        calls = [running.calls[slot] for running, slot in rows]
        device = self.backbone.device
        x_t = torch.stack([call.x_t for call in calls]).to(device)
        scales = torch.tensor(
            [(call.level.timestep, call.level.alpha, call.level.sigma) for call in calls],
            dtype=torch.float64,
        ).to(device=device, dtype=torch.float32)
        names = calls[0].cond
        cond = {name: torch.cat([call.cond[name] for call in calls]).to(device) for name in names}
        started = time.perf_counter()
        output = self.backbone.forward(x_t, scales[:, 0], cond).float()
        alpha, sigma = scales[:, 1].view(-1, 1, 1, 1), scales[:, 2].view(-1, 1, 1, 1)
        x_0, eps = self._convert(x_t, output, alpha, sigma)
        self.stats.seconds += time.perf_counter() - started
        self.stats.num_batches += 1
        self.stats.num_model_calls += len(calls)
        return [Prediction(x_0=a, eps=b) for a, b in zip(x_0, eps, strict=True)]


def _fullest(packs: dict[Hashable, deque[tuple[_Running, int]]]) -> int:
    return max((len(pack) for pack in packs.values()), default=0)


def _shape_key(call: ModelCall) -> Hashable:
    return (call.x_t.shape, tuple((name, value.shape) for name, value in call.cond.items()))


def _converter(
    prediction_type: PredictionType,
) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Raw output to (x_0, eps), from x_t = alpha * x_0 + sigma * eps.

    v = alpha * eps - sigma * x_0 (Salimans & Ho 2022, arXiv:2202.00512, with alpha**2 + sigma**2
    = 1). flow = eps - x_0 (Liu et al. 2022, arXiv:2209.03003, with alpha + sigma = 1).
    """

    def from_epsilon(x_t: Tensor, out: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return (x_t - s * out) / a, out

    def from_sample(x_t: Tensor, out: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return out, (x_t - a * out) / s

    def from_v(x_t: Tensor, out: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return a * x_t - s * out, a * out + s * x_t

    def from_flow(x_t: Tensor, out: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return x_t - s * out, x_t + a * out

    return {
        "epsilon": from_epsilon,
        "sample": from_sample,
        "v_prediction": from_v,
        "flow": from_flow,
    }[prediction_type]
