"""What networks are trained to output, turned into what methods use."""

from collections.abc import Callable

from torch import Tensor

from generators.noise import NoiseLevel, PredictionType
from generators.program import Prediction

Convert = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x_t, raw output, alpha, sigma), rows of a batch, to (x_0, eps)."""


def converter(
    prediction_type: PredictionType,
) -> Convert:
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


def raw_output(
    prediction: Prediction, level: NoiseLevel, prediction_type: PredictionType
) -> Tensor:
    """(C, h, w), what a network of the type would have said."""
    x_0, eps = prediction.x_0, prediction.eps
    return {
        "epsilon": lambda: eps,
        "sample": lambda: x_0,
        "v_prediction": lambda: level.alpha * eps - level.sigma * x_0,
        "flow": lambda: eps - x_0,
    }[prediction_type]()


def from_raw(
    x_t: Tensor, output: Tensor, level: NoiseLevel, prediction_type: PredictionType
) -> Prediction:
    """The inverse of `raw_output`, for x_t (C, h, w) at a level."""
    scales = (x_t.new_tensor(level.alpha), x_t.new_tensor(level.sigma))
    x_0, eps = converter(prediction_type)(x_t, output, *scales)
    return Prediction(x_0=x_0, eps=eps)
