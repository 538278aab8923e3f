"""The protocol of the guidance family, and the arithmetic its members share."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning, Denoiser, ModelCall, Prediction, Program, ask

Role = Literal["none", "contrast", "term", "gradient", "alone"]
"""How a method joins others.

none: the conditional prediction. contrast: weighs it against other conditionings; one at most.
term: a direction that is added to a contrast. gradient: moves the prediction that the others made.
alone: with no other.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What `discl methods guidance` says of a method beside its parameters.

    Attributes:
        role: how it joins others.
        paper: authors, year, arXiv number.
        cost: model evaluations and gradients a step, in words.
        samplers: those it works with; empty for all.
    """

    role: Role
    paper: str
    cost: str
    samplers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What one request is steered towards.

    Attributes:
        cond: conditioning of its class and prompt.
        uncond: the null conditioning, None when no method needs it.
        label: class index.
        source: (C, h, w), the encoded real image, None for requests without one.
        models: what else may be asked and opened.
        walk: the noise levels it visits, the result's at the end; empty where nobody says.
        base: what a gradient method moves; None for the conditional prediction.
    """

    cond: Conditioning
    uncond: Conditioning | None
    label: int
    source: Tensor | None
    models: Models
    walk: Sequence[NoiseLevel] = ()
    base: Denoiser | None = None

    def conditional(self, x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        """The conditional prediction."""
        return ask(ModelCall(x_t=x_t, level=level, cond=self.cond))

    def unconditional(self, x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        """The unconditional prediction; for methods that say they need it."""
        assert self.uncond is not None
        return ask(ModelCall(x_t=x_t, level=level, cond=self.uncond))

    def condition_of(self, class_name: str, prompt: str | None = None) -> Conditioning:
        """Of another class or prompt; entries that are the source's stay the request's own."""
        return {**self.cond, **self.models.condition(class_name, prompt)}

    def moved(self, x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        """What a gradient method starts from."""
        return (self.base or self.conditional)(x_t, level)


class Guidance(Protocol):
    """Turns a target into a denoiser. State of a request lives in the returned closure.

    Methods inherit from it; what they do not say is as below.
    """

    __slots__ = ()
    card: ClassVar[Card]

    @property
    def needs_unconditional(self) -> bool:
        """Whether the backbone must have a null conditioning."""
        return False

    @property
    def calls_per_step(self) -> float:
        """Model evaluations a step costs at most, for estimates."""
        return 1.0

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of what it opens: their contents are part of what decides pixels."""
        return ()

    def check(self, models: Models) -> None:
        """Finds what does not fit the network or the data set, before any work.

        Raises:
            ConfigError: a parameter that does not.
            CheckpointError: a file that cannot be read.
        """
        if self.needs_unconditional:
            models.unconditional()

    @abstractmethod
    def denoiser(self, target: Target) -> Denoiser:
        """Called once per request."""

    def verify(self, target: Target, sample: Tensor) -> Program[None]:
        """Looks at what was made, (C, h, w).

        Raises:
            SampleRejected: the sample must not be used.
        """
        yield from ()


def extrapolate(no: Prediction, yes: Prediction, scale: float) -> Prediction:
    """No + scale (yes - no). The weights sum to one, so x_0 and eps mix alike."""
    return Prediction(
        x_0=torch.lerp(no.x_0, yes.x_0, scale), eps=torch.lerp(no.eps, yes.eps, scale)
    )


def add_direction(
    prediction: Prediction, no: Prediction, yes: Prediction, weight: float | Tensor = 1.0
) -> Prediction:
    """The prediction with weight (yes - no) added; a weight of a place each is (1, h, w)."""
    return Prediction(
        x_0=prediction.x_0 + weight * (yes.x_0 - no.x_0),
        eps=prediction.eps + weight * (yes.eps - no.eps),
    )


def shift(prediction: Prediction, eps: Tensor, level: NoiseLevel) -> Prediction:
    """The prediction with `eps` (C, h, w) added to its noise, its clean image to match.

    At a level without signal the clean image has nothing to say, and stays.
    """
    ratio = level.sigma / level.alpha if level.alpha > 0 else 0.0
    return Prediction(x_0=torch.sub(prediction.x_0, eps, alpha=ratio), eps=prediction.eps + eps)
