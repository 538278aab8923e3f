"""What classifiers say of clean samples, as energies; those of one guide share batches."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from generators.models import Models
from generators.program import Conditioning
from generators.steering.guide import Guide
from generators.transfer import to_device


@dataclass(frozen=True, slots=True)
class Logits:
    """(N, num_classes), for calls without a gradient."""

    guide: Guide

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        return self.guide.logits(x)


@dataclass(frozen=True, slots=True)
class Features:
    """(N, num_features), for calls without a gradient."""

    guide: Guide

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        return self.guide.features(x)


@dataclass(frozen=True, slots=True)
class TemperedLogProbability:
    """joint * f_y - log sum_k exp(conditional * f_k): log p(y | x) where both are 1.

    Inputs: `index` (N,) of y, `joint` and `conditional` (N,) temperatures.
    """

    guide: Guide

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        logits = self.guide.logits(x)
        own = logits.gather(1, inputs["index"][:, None])[:, 0]
        scaled = logits * inputs["conditional"][:, None]
        return inputs["joint"] * own - scaled.logsumexp(1)


@dataclass(frozen=True, slots=True)
class Violation:
    """How far samples are outside of what is allowed: 0 inside.

    Nats that the log-probability of a class is below its bound, and what the cosine similarity to
    given features is outside of its band, in hundredths. Inputs: `index`, `least_log_probability`,
    `low` and `high` (N,), `features` (N, num_features).
    """

    guide: Guide

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        own = log_probability_of(self.guide.logits(x), inputs["index"])
        short = (inputs["least_log_probability"] - own).relu()
        similarity = torch.cosine_similarity(self.guide.features(x), inputs["features"], dim=1)
        outside = (inputs["low"] - similarity).relu() + (similarity - inputs["high"]).relu()
        return short + 100 * outside


@dataclass(frozen=True, slots=True)
class LinearEnergy:
    """Sum of weight_k log p(k | x) plus sum of tilt_k p(k | x): what is wished of a distribution.

    Inputs: `weights` and `tilts`, (N, num_classes).
    """

    guide: Guide

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        """As `Energy`."""
        logits = self.guide.logits(x)
        wished = (inputs["weights"] * functional.log_softmax(logits, 1)).sum(1)
        return wished + (inputs["tilts"] * functional.softmax(logits, 1)).sum(1)


def log_probability_of(logits: Tensor, index: Tensor) -> Tensor:
    """(N,) of one class a row: logits (N, num_classes), index (N,)."""
    return logits.log_softmax(1).gather(1, index[:, None])[:, 0]


def scalar(models: Models, value: float) -> Tensor:
    """(1,) on the network's device, for the inputs of a row; the host does not wait for it."""
    return to_device(torch.tensor([value]), models.backbone.device)


def class_index(models: Models, guide: Guide, label: int, at: str) -> Tensor:
    """(1,): which logit of a classifier is that of a class of the data set."""
    index = guide.index(models.class_names[label], at)
    return to_device(torch.tensor([index]), models.backbone.device)


def class_inputs(
    models: Models,
    guide: Guide,
    label: int,
    at: str,
    temperatures: tuple[float, float] = (1.0, 1.0),
) -> Conditioning:
    """Of `TemperedLogProbability` for a class of the data set; joint and conditional."""
    joint, conditional = temperatures
    return {
        "index": class_index(models, guide, label, at),
        "joint": scalar(models, joint),
        "conditional": scalar(models, conditional),
    }
