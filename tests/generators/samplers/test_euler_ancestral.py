import math

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from torch import Tensor

from generators.noise import NoiseLevel, NoiseSchedule, TimestepSpacing
from generators.program import Prediction
from generators.samplers.ddim import Ddim
from generators.samplers.euler_ancestral import EulerAncestral
from tests.support.few_steps import from_epsilon, run_sampler, wavy

TABLES = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def level(alpha: float, sigma: float) -> NoiseLevel:
    return NoiseLevel(timestep=0, alpha=alpha, sigma=sigma, progress=0)


def constant(x_0: float, eps: float) -> object:
    def predict(x_t: Tensor, level: NoiseLevel) -> Prediction:
        return Prediction(x_0=torch.full_like(x_t, x_0), eps=torch.full_like(x_t, eps))

    return predict


def schedule_of(
    scheduler: EulerAncestralDiscreteScheduler, spacing: TimestepSpacing
) -> NoiseSchedule:
    return NoiseSchedule.from_alphas_cumprod(
        scheduler.alphas_cumprod, "epsilon", timestep_spacing=spacing
    )


@pytest.mark.parametrize(
    ("now", "after"), [((0.6, 0.8), (0.8, 0.6)), ((0.3, 0.7), (0.6, 0.4)), ((0.5, 2.0), (0.5, 1.0))]
)
def test_the_step_of_k_diffusion_on_hand_made_numbers(
    now: tuple[float, float], after: tuple[float, float]
) -> None:
    """Written as there, in y = x / alpha: variance-preserving, flow, exploding levels."""
    x_0, eps = 0.5, -1.0
    x_t = now[0] * x_0 + now[1] * eps
    s, s_next = now[1] / now[0], after[1] / after[0]
    up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
    down = math.sqrt(s_next**2 - up**2)
    z = float(torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(4)))
    y = x_t / now[0]
    expected = after[0] * (y + (y - x_0) / s * (down - s) + up * z)

    made = run_sampler(
        EulerAncestral(),
        torch.full((1, 1, 1), x_t),
        [level(*now), level(*after)],
        constant(x_0, eps),
        4,
    )

    assert float(made) == pytest.approx(expected, rel=1e-5)


def test_from_pure_noise_only_the_clean_prediction_and_fresh_noise_are_kept() -> None:
    z = float(torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(4)))
    made = run_sampler(
        EulerAncestral(),
        torch.zeros(1, 1, 1),
        [level(0.0, 1.0), level(0.8, 0.6)],
        constant(0.5, 7.0),
        4,
    )
    assert float(made) == pytest.approx(0.8 * 0.5 + 0.6 * z, rel=1e-5)


def test_the_last_step_ends_at_the_clean_prediction() -> None:
    made = run_sampler(
        EulerAncestral(clip_sample=True),
        torch.zeros(1, 1, 1),
        [level(0.6, 0.8), level(1.0, 0.0)],
        constant(3.0, 7.0),
        4,
    )
    assert float(made) == 1.0


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(("steps", "kept"), [(1, 1), (4, 4), (4, 2), (20, 13)])
def test_equals_diffusers_scheduler(spacing: TimestepSpacing, steps: int, kept: int) -> None:
    """`EulerAncestralDiscreteScheduler` in a loop; its samples are ours divided by alpha."""
    scheduler = EulerAncestralDiscreteScheduler(
        **TABLES, timestep_spacing=spacing, steps_offset=0 if spacing == "trailing" else 1
    )
    scheduler.set_timesteps(steps)
    schedule = NoiseSchedule.from_alphas_cumprod(
        scheduler.alphas_cumprod,
        "epsilon",
        timestep_spacing=spacing,
        steps_offset=scheduler.config.steps_offset,
    )
    levels = schedule.levels(steps)[steps - kept :]
    start = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    scheduler.set_begin_index(steps - kept)
    generator, y = torch.Generator().manual_seed(2), start / levels[0].alpha
    for t in scheduler.timesteps[steps - kept :]:
        eps = wavy(scheduler.scale_model_input(y, t), float(t))
        y = scheduler.step(eps, t, y, generator=generator).prev_sample

    made = run_sampler(EulerAncestral(), start, levels, from_epsilon(wavy), 2)

    scale = max(1.0, float(y.abs().max()))
    torch.testing.assert_close(made / scale, y / scale, atol=2e-5, rtol=0)


def test_on_a_variance_preserving_schedule_it_is_ddim_with_eta_1() -> None:
    scheduler = EulerAncestralDiscreteScheduler(**TABLES)
    levels = schedule_of(scheduler, "trailing").levels(12)
    start = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(1))

    ancestral = run_sampler(EulerAncestral(), start, levels, from_epsilon(wavy), 2)
    ddim = run_sampler(Ddim(eta=1.0), start, levels, from_epsilon(wavy), 2)

    torch.testing.assert_close(ancestral, ddim, atol=1e-4, rtol=1e-4)
