"""What a method may ask of a network: generation requests as Python generators (sans-model logic).

A program yields a tuple of calls and is sent a tuple of answers, one each. It never sees the batch
or other requests; the engine packs the calls of many programs.
"""

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from generators.noise import NoiseLevel, Predicting

Conditioning = Mapping[str, Tensor]
"""Name to a tensor (1, ...); the engine concatenates rows along the first dimension."""


class Network(Protocol):
    """A network other than the engine's own, on the same samples: a weaker one, a perturbed one.

    Rows of equal networks share batches. Whoever makes one decides what is equal: `__eq__` and
    `__hash__` are its identity's unless it says otherwise.
    """

    @property
    def schedule(self) -> Predicting:
        """What it outputs; calls are at levels of the engine's own network."""

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """As `Backbone.forward`."""


class Energy(Protocol):
    """What else is asked about a sample: a differentiable function of rows, e.g. a classifier.

    Rows of equal energies share batches, and one backward pass gives all their gradients: a row's
    values must depend on this row alone.
    """

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """(N,), or (N, k) where no gradient is asked for.

        Args:
            x: (N, C, h, w) float32 samples, clean or noisy, as its callers know.
            timesteps: (N,) of the rows' levels.
            inputs: of the rows, e.g. labels and temperatures; (N, ...) each.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelCall:
    """One row of a batch: what the network is to be evaluated on.

    Attributes:
        x_t: (C, h, w) float32.
        level: where on the noise schedule `x_t` is.
        cond: conditioning of this row.
        network: None for the engine's own.
    """

    x_t: Tensor
    level: NoiseLevel
    cond: Conditioning
    network: Network | None = None

    @property
    def pack(self) -> Hashable:
        """Rows share a batch where this is equal."""
        shapes = tuple((name, value.shape) for name, value in self.cond.items())
        return (self.network, self.x_t.shape, shapes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnergyCall:
    """One row of a batch of an energy. Answered by a `Reading`.

    Attributes:
        x: (C, h, w) float32.
        level: of the step that asks.
        energy: the function.
        inputs: of this row.
        gradient: whether that with respect to `x` is wanted as well.
    """

    x: Tensor
    level: NoiseLevel
    energy: Energy
    inputs: Conditioning
    gradient: bool = True

    @property
    def pack(self) -> Hashable:
        """Rows share a batch where this is equal."""
        shapes = tuple((name, value.shape) for name, value in self.inputs.items())
        return (self.energy, self.gradient, self.x.shape, shapes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What the network says of one row, in both forms whatever it was trained to output.

    Attributes:
        x_0: (C, h, w), the predicted clean image (Tweedie estimate).
        eps: (C, h, w), the predicted noise; x_t = alpha * x_0 + sigma * eps.
    """

    x_0: Tensor
    eps: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What an energy says of one row.

    Attributes:
        value: () or (k,) float32.
        gradient: (C, h, w) of the value with respect to x; None if it was not asked for.
    """

    value: Tensor
    gradient: Tensor | None


Call = ModelCall | EnergyCall
Answer = Prediction | Reading
T = TypeVar("T")
Program = Generator[tuple[Call, ...], tuple[Any, ...], T]
"""Is sent one answer a call: a `Prediction` for a `ModelCall`, a `Reading` for an `EnergyCall`."""
Denoiser = Callable[[Tensor, NoiseLevel], Program[Prediction]]
"""(x_t, level) to a program returning the (guided) prediction."""


def ask(call: ModelCall) -> Program[Prediction]:
    """A program of one evaluation."""
    (found,) = yield (call,)
    assert isinstance(found, Prediction)
    return found


def read(call: EnergyCall) -> Program[Reading]:
    """A program of one look at an energy."""
    (found,) = yield (call,)
    assert isinstance(found, Reading)
    return found


def gradient_of(
    energy: Energy, x: Tensor, level: NoiseLevel, inputs: Conditioning
) -> Program[Tensor]:
    """A program of one gradient, (C, h, w), of an energy with respect to x."""
    found = yield from read(EnergyCall(x=x, level=level, energy=energy, inputs=inputs))
    assert found.gradient is not None
    return found.gradient


def gather(*programs: Program[T]) -> Program[tuple[T, ...]]:
    """Runs programs side by side, so that their calls share batches; returns all their results.

    A model call that several of them make at once is made once.
    """
    results: dict[int, T] = {}
    waiting: dict[int, tuple[Call, ...]] = {}

    def advance(index: int, answers: tuple[Answer, ...] | None) -> None:
        program = programs[index]
        try:
            waiting[index] = next(program) if answers is None else program.send(answers)
        except StopIteration as stop:
            waiting.pop(index, None)
            results[index] = stop.value

    for index in range(len(programs)):
        advance(index, None)
    while waiting:
        order = sorted(waiting)
        calls = {_identity(call): call for index in order for call in waiting[index]}
        answers = dict(zip(calls, (yield tuple(calls.values())), strict=True))
        for index in order:
            advance(index, tuple(answers[_identity(call)] for call in waiting[index]))
    return tuple(results[index] for index in range(len(programs)))


def _identity(call: Call) -> Hashable:
    """Equal for calls that have the same answer."""
    if isinstance(call, EnergyCall):
        return id(call)
    return (id(call.x_t), call.level, id(call.cond), call.network)
