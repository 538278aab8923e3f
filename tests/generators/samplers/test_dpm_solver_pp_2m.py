import math

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import Toy
from generators.engine import Engine
from generators.noise import NoiseLevel
from generators.program import ModelCall, Prediction, Program
from generators.registry import MethodSpec, build
from generators.samplers.dpm_solver_pp_2m import DpmSolverPlusPlus2M


def level(alpha: float) -> NoiseLevel:
    return NoiseLevel(timestep=0, alpha=alpha, sigma=math.sqrt(1 - alpha**2), progress=0)


def run(
    sampler: DpmSolverPlusPlus2M, x_t: float, levels: list[NoiseLevel], x_0: list[float]
) -> float:
    """Runs a sampler on hand-made clean predictions, which need no model calls."""
    remaining = iter(x_0)

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        value = torch.full((1, 1, 1), next(remaining), dtype=torch.float64)
        return Prediction(x_0=value, eps=value)
        yield ()

    start = torch.full((1, 1, 1), x_t, dtype=torch.float64)
    with pytest.raises(StopIteration) as stop:
        next(sampler.sample(denoise, start, levels, torch.Generator()))
    return float(stop.value.value)


def test_two_steps_of_algorithm_2() -> None:
    """The second step uses D = (1 + 1/2r) x_0 - (1/2r) x_0_previous, r = h_previous / h."""
    levels = [level(0.3), level(0.6), level(0.8)]
    half_log_snr = [math.log(at.alpha / at.sigma) for at in levels]
    h_1, h_2 = half_log_snr[1] - half_log_snr[0], half_log_snr[2] - half_log_snr[1]
    first = levels[1].sigma / levels[0].sigma * 0.9 - 0.6 * (math.exp(-h_1) - 1) * 0.4
    r = h_1 / h_2
    direction = (1 + 1 / (2 * r)) * -0.5 - 1 / (2 * r) * 0.4
    second = levels[2].sigma / levels[1].sigma * first - 0.8 * (math.exp(-h_2) - 1) * direction

    made = run(DpmSolverPlusPlus2M(lower_order_final=False), 0.9, levels, [0.4, -0.5])

    assert made == pytest.approx(second)


def test_last_of_few_steps_is_first_order() -> None:
    levels = [level(0.3), level(0.6), level(0.8)]
    first = run(DpmSolverPlusPlus2M(), 0.9, levels[:2], [0.4])
    second = run(DpmSolverPlusPlus2M(), first, levels[1:], [-0.5])

    assert run(DpmSolverPlusPlus2M(), 0.9, levels, [0.4, -0.5]) == pytest.approx(second)


def test_last_step_to_a_clean_level_returns_the_prediction() -> None:
    assert run(DpmSolverPlusPlus2M(), 0.9, [level(0.3), level(1.0)], [0.4]) == pytest.approx(0.4)


def test_pure_noise_and_equal_levels_stay_finite() -> None:
    """Zero terminal signal has log-SNR -inf; a final alpha of its own repeats the last level."""
    steps = DpmSolverPlusPlus2M(lower_order_final=False)
    from_noise = run(steps, 0.9, [level(0.0), level(0.5), level(0.9)], [0.4, 0.3])
    repeated = run(steps, 0.9, [level(0.5), level(0.9), level(0.9)], [0.4, 0.3])
    repeated_first = run(steps, 0.9, [level(0.5), level(0.5), level(0.9)], [0.4, 0.3])

    first = level(0.5).sigma * 0.9 + 0.5 * 0.4
    ratio = level(0.9).sigma / level(0.5).sigma
    h = math.log(0.9 / level(0.9).sigma) - math.log(0.5 / level(0.5).sigma)
    assert from_noise == pytest.approx(ratio * first - 0.9 * math.expm1(-h) * 0.3)
    assert repeated == pytest.approx(run(steps, 0.9, [level(0.5), level(0.9)], [0.4]))
    assert repeated_first == pytest.approx(run(steps, 0.9, [level(0.5), level(0.9)], [0.3]))


def test_second_order_beats_first_order_on_a_gaussian_with_a_known_flow() -> None:
    """One Gaussian N(m, v): (x - alpha m) / sqrt(V) stays constant, V = alpha^2 v + sigma^2.

    The jump to the clean level is left out: it is first order for every solver.
    """
    mean, variance = torch.tensor([0.5, -0.25]).view(1, 1, 2), 0.25
    backbone = Toy(means={"only": [[0.5, -0.25]]}, variance=variance).load("cpu")
    start = torch.tensor([1.0, 0.3]).view(1, 1, 2)

    def error(spec: MethodSpec, steps: int) -> float:
        levels = [at for at in backbone.schedule.levels(steps) if at.sigma > 0.3]

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            cond = backbone.unconditional()
            (prediction,) = yield (ModelCall(x_t=x_t, level=level, cond=cond),)
            return prediction

        program = build("sampler", spec).sample(denoise, start, levels, torch.Generator())
        (end,) = Engine(backbone, 1).run([(0, program)])
        first, last = (at.alpha**2 * variance + at.sigma**2 for at in (levels[0], levels[-1]))
        moved = math.sqrt(last / first) * (start - levels[0].alpha * mean)
        return float((end.value - levels[-1].alpha * mean - moved).norm())

    second_order = MethodSpec(name="dpm_solver_pp_2m", params={"lower_order_final": False})
    first_order = MethodSpec(name="ddim")
    assert error(second_order, 40) < 0.2 * error(first_order, 40)
    assert error(second_order, 160) < error(second_order, 40) / 8
    assert error(first_order, 160) > error(first_order, 40) / 8
