import math

import pytest
import torch
from diffusers import LCMScheduler
from torch import Tensor

from generators.consistency_schedule import ConsistencySchedule
from generators.noise import NoiseLevel
from generators.program import Prediction
from generators.samplers.lcm import Lcm
from tests.support.few_steps import from_epsilon, run_sampler, wavy


def level(alpha: float, timestep: float) -> NoiseLevel:
    return NoiseLevel(timestep=timestep, alpha=alpha, sigma=math.sqrt(1 - alpha**2), progress=0)


def answers(*clean: float) -> object:
    remaining = iter(clean)

    def predict(x_t: Tensor, level: NoiseLevel) -> Prediction:
        return Prediction(x_0=torch.full_like(x_t, next(remaining)), eps=torch.zeros_like(x_t))

    return predict


def noise(seed: int, shape: tuple[int, ...] = (1, 1, 1)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_boundary_scalings_on_hand_made_numbers() -> None:
    """Timestep 0.05 scaled by 10 is sigma_data: c_skip 1/2, c_out sqrt(1/2)."""
    start = torch.full((1, 1, 1), 0.4)
    made = run_sampler(Lcm(), start, [level(0.6, 0.05), level(1, 0)], answers(0.8), 0)
    other = run_sampler(
        Lcm(timestep_scaling=5), start, [level(0.6, 0.1), level(1, 0)], answers(0.8), 0
    )

    assert float(made) == pytest.approx(0.5 * 0.4 + math.sqrt(0.5) * 0.8)
    assert float(other) == pytest.approx(float(made))


def test_the_function_is_the_identity_at_the_clean_end() -> None:
    """c_skip(0) = 1 and c_out(0) = 0, whatever the network says."""
    start = torch.full((1, 1, 1), 0.4)
    assert float(run_sampler(Lcm(), start, [level(0.99, 0), level(1, 0)], answers(9), 0)) == (
        pytest.approx(0.4)
    )


def test_fresh_noise_between_steps_and_none_after_the_last() -> None:
    """Far from timestep 0 c_skip is 0 and c_out 1: x' = alpha' x_0 + sigma' z, then x_0."""
    levels = [level(0.1, 999), level(0.8, 499), level(1, 0)]
    seen: list[Tensor] = []

    def predict(x_t: Tensor, level: NoiseLevel) -> Prediction:
        seen.append(x_t)
        return Prediction(x_0=torch.full_like(x_t, 0.5), eps=x_t)

    made = run_sampler(Lcm(), torch.zeros(1, 1, 1), levels, predict, 4)

    assert float(seen[1]) == pytest.approx(0.8 * 0.5 + 0.6 * float(noise(4)), rel=1e-5)
    assert float(made) == pytest.approx(0.5, rel=1e-5)


def test_the_last_step_adds_no_noise_where_the_schedule_keeps_some() -> None:
    made = run_sampler(
        Lcm(), torch.zeros(1, 1, 1), [level(0.1, 999), level(0.9, 0)], answers(0.5), 4
    )
    assert float(made) == pytest.approx(0.5, rel=1e-5)


def test_clipping_clamps_the_clean_prediction() -> None:
    made = run_sampler(
        Lcm(clip_sample=True),
        torch.zeros(1, 1, 1),
        [level(0.1, 999), level(1, 0)],
        answers(3.0),
        0,
    )
    assert float(made) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("steps", "image_guidance"), [(1, 0), (4, 0), (4, 50), (7, 30), (5, 90)])
@pytest.mark.parametrize("clip_sample", [False, True])
@pytest.mark.parametrize("timestep_scaling", [10.0, 0.02])
def test_equals_diffusers_scheduler(
    prediction_type: str,
    steps: int,
    image_guidance: int,
    clip_sample: bool,
    timestep_scaling: float,
) -> None:
    """`LCMScheduler.step` in a loop, on the same noise; a small scaling makes c_skip count."""
    scheduler = LCMScheduler(
        prediction_type=prediction_type,
        clip_sample=clip_sample,
        timestep_scaling=timestep_scaling,
    )
    scheduler.set_timesteps(steps, strength=(100 - image_guidance) / 100)
    schedule = ConsistencySchedule(
        alphas_cumprod=scheduler.alphas_cumprod, prediction_type="epsilon"
    )
    start = noise(1, (1, 4, 4, 4))
    generator, x_t = torch.Generator().manual_seed(2), start
    for t in scheduler.timesteps:
        x_t = scheduler.step(wavy(x_t, float(t)), t, x_t, generator=generator).prev_sample

    def predict(x_t: Tensor, level: NoiseLevel) -> Prediction:
        out, a, s = wavy(x_t, level.timestep), level.alpha, level.sigma
        clean = {"epsilon": (x_t - s * out) / a, "v_prediction": a * x_t - s * out, "sample": out}
        return Prediction(x_0=clean[prediction_type], eps=out)

    sampler = Lcm(clip_sample=clip_sample, timestep_scaling=timestep_scaling)
    levels = schedule.levels(steps, image_guidance)
    made = run_sampler(sampler, start, levels, predict, 2)

    scale = max(1.0, float(x_t.abs().max()))
    torch.testing.assert_close(made / scale, x_t / scale, atol=1e-4, rtol=0)


def test_a_level_halfway_down_needs_no_other_steps() -> None:
    """The same network at half guidance runs as many steps, from a lower level."""
    schedule = ConsistencySchedule(
        alphas_cumprod=LCMScheduler().alphas_cumprod, prediction_type="epsilon"
    )
    asked: list[float] = []

    def network(x_t: Tensor, timestep: float) -> Tensor:
        asked.append(timestep)
        return wavy(x_t, timestep)

    for image_guidance in (0, 50):
        run_sampler(
            Lcm(),
            noise(1, (1, 2, 2)),
            schedule.levels(4, image_guidance),
            from_epsilon(network),
            0,
        )

    assert asked == [999, 759, 499, 259, 499, 379, 259, 139]
