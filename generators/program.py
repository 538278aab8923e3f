"""What a method may ask of a network: generation requests as Python generators (sans-model logic).

A program yields a tuple of model calls and is sent a tuple of predictions, one each. It never sees
the network, the batch or other requests; the engine packs the calls of many programs.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from generators.noise import NoiseLevel

Conditioning = Mapping[str, Tensor]
"""Name to a tensor (1, ...); the engine concatenates rows along the first dimension."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelCall:
    """One row of a batch: what the network is to be evaluated on.

    Attributes:
        x_t: (C, h, w) float32.
        level: where on the noise schedule `x_t` is.
        cond: conditioning of this row.
    """

    x_t: Tensor
    level: NoiseLevel
    cond: Conditioning


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What the network says of one row, in both forms whatever it was trained to output.

    Attributes:
        x_0: (C, h, w), the predicted clean image (Tweedie estimate).
        eps: (C, h, w), the predicted noise; x_t = alpha * x_0 + sigma * eps.
    """

    x_0: Tensor
    eps: Tensor


T = TypeVar("T")
Program = Generator[tuple[ModelCall, ...], tuple[Prediction, ...], T]
Denoiser = Callable[[Tensor, NoiseLevel], Program[Prediction]]
"""(x_t, level) to a program returning the (guided) prediction."""


def gather(*programs: Program[T]) -> Program[tuple[T, ...]]:
    """Runs programs side by side, so that their calls share batches; returns all their results."""
    results: dict[int, T] = {}
    waiting: dict[int, tuple[ModelCall, ...]] = {}

    def advance(index: int, predictions: tuple[Prediction, ...] | None) -> None:
        program = programs[index]
        try:
            waiting[index] = next(program) if predictions is None else program.send(predictions)
        except StopIteration as stop:
            waiting.pop(index, None)
            results[index] = stop.value

    for index in range(len(programs)):
        advance(index, None)
    while waiting:
        order = sorted(waiting)
        answers = yield tuple(call for index in order for call in waiting[index])
        start = 0
        for index in order:
            count = len(waiting[index])
            advance(index, answers[start : start + count])
            start += count
    return tuple(results[index] for index in range(len(programs)))
