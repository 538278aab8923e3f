import math

import pytest
import torch
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Prediction, Program
from generators.samplers.ddim import Ddim


def level(alpha: float, timestep: float = 0) -> NoiseLevel:
    return NoiseLevel(timestep=timestep, alpha=alpha, sigma=math.sqrt(1 - alpha**2), progress=0)


def run(sampler: Ddim, x_t: Tensor, levels: list[NoiseLevel], answers: list[Prediction]) -> Tensor:
    """Runs a sampler on hand-made predictions, which need no model calls."""
    remaining = iter(answers)

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        return next(remaining)
        yield ()

    generator = torch.Generator().manual_seed(4)
    with pytest.raises(StopIteration) as stop:
        next(sampler.sample(denoise, x_t, levels, generator))
    sample: Tensor = stop.value.value
    return sample


def prediction(x_0: float, eps: float) -> Prediction:
    return Prediction(x_0=torch.full((1, 1, 1), x_0), eps=torch.full((1, 1, 1), eps))


def test_deterministic_step_of_equation_12() -> None:
    """0.8 * 0.5 + 0.6 * -1 = -0.2, then 1 * 0.25 + 0 * 3."""
    start = torch.zeros(1, 1, 1)
    one = run(Ddim(), start, [level(0.6), level(0.8)], [prediction(0.5, -1)])
    two = run(
        Ddim(),
        start,
        [level(0.6), level(0.8), level(1)],
        [prediction(0.5, -1), prediction(0.25, 3)],
    )

    assert float(one) == pytest.approx(-0.2)
    assert float(two) == pytest.approx(0.25)


def test_noise_of_equation_16() -> None:
    """sigma = eta sqrt((1-a')/(1-a)) sqrt(1-a/a'); the deterministic part shrinks to match."""
    scale = 0.5 * math.sqrt(0.36 / 0.64) * math.sqrt(1 - 0.36 / 0.64)
    z = float(torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(4)))
    expected = 0.8 * 0.5 + math.sqrt(0.36 - scale**2) * -1 + scale * z

    made = run(Ddim(eta=0.5), torch.zeros(1, 1, 1), [level(0.6), level(0.8)], [prediction(0.5, -1)])

    assert float(made) == pytest.approx(expected, rel=1e-5)


def test_fully_noisy_step_from_pure_noise_is_real() -> None:
    """Zero terminal signal and eta 1: nothing of eps is kept; rounding must not go negative."""
    end = level(0.3)
    z = float(torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(4)))
    made = run(Ddim(eta=1.0), torch.zeros(1, 1, 1), [level(0.0), end], [prediction(0.5, -1)])

    assert float(made) == pytest.approx(0.3 * 0.5 + end.sigma * z, rel=1e-5)


def test_clipping_clamps_the_clean_prediction_and_keeps_eps() -> None:
    made = run(
        Ddim(clip_sample=True),
        torch.zeros(1, 1, 1),
        [level(0.6), level(0.8)],
        [prediction(3.0, -1)],
    )
    assert float(made) == pytest.approx(0.8 * 1 + 0.6 * -1)


def test_no_steps_return_the_start() -> None:
    start = torch.full((1, 1, 1), 0.7)
    assert run(Ddim(), start, [level(1)], []) is start
