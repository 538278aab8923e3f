import pytest
import torch
from diffusers import LCMScheduler

from generators.consistency_schedule import ConsistencySchedule, consistency_steps
from generators.errors import ConfigError


def schedule(original_steps: int = 50) -> ConsistencySchedule:
    return ConsistencySchedule(
        alphas_cumprod=LCMScheduler().alphas_cumprod,
        prediction_type="epsilon",
        original_steps=original_steps,
    )


@pytest.mark.parametrize("original_steps", [50, 100, 33])
@pytest.mark.parametrize("image_guidance", [0, 10, 25, 50, 70, 80, 90])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_timesteps_are_those_of_diffusers(
    original_steps: int, image_guidance: int, steps: int
) -> None:
    scheduler = LCMScheduler(original_inference_steps=original_steps)
    kept = original_steps * (100 - image_guidance) // 100
    if steps > kept:
        with pytest.raises(ConfigError, match=rf"num_inference_steps.*1\.\.{kept}"):
            schedule(original_steps).levels(steps, image_guidance)
        return
    # An exact share: in floats, int(100 * (1 - 0.9)) is 9.
    scheduler.set_timesteps(steps, strength=(kept + 1e-6) / original_steps)

    levels = schedule(original_steps).levels(steps, image_guidance)

    assert [level.timestep for level in levels[:-1]] == scheduler.timesteps.tolist()
    assert [level.progress for level in levels] == [i / steps for i in range(steps + 1)]
    for level in levels[:-1]:
        expected = float(scheduler.alphas_cumprod[int(level.timestep)])
        assert level.alpha**2 == pytest.approx(expected, rel=1e-6)
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1)
    assert (levels[-1].alpha, levels[-1].sigma) == (1.0, 0.0)


def test_every_level_runs_all_steps_and_starts_at_its_own_noise() -> None:
    starts = [schedule().levels(4, level)[0].sigma for level in (0, 10, 30, 50, 70, 90)]

    assert starts == sorted(starts, reverse=True)
    assert len(set(starts)) == len(starts)
    assert {consistency_steps(50, 4, level) for level in (0, 10, 30, 50, 70, 90)} == {4}


def test_the_source_itself_takes_no_step() -> None:
    assert consistency_steps(50, 4, 100) == 0
    (end,) = schedule().levels(4, 100)
    assert (end.alpha, end.sigma) == (1.0, 0.0)


@pytest.mark.parametrize(("steps", "level"), [(6, 90), (51, 0), (0, 0), (1, 99)])
def test_more_steps_than_are_left_at_a_level_are_refused(steps: int, level: int) -> None:
    with pytest.raises(ConfigError, match=rf"num_inference_steps: {steps} .* at level {level}"):
        consistency_steps(50, steps, level)


@pytest.mark.parametrize("count", [0, 11])
def test_original_steps_outside_the_table_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=r"original_inference_steps.*1\.\.10"):
        ConsistencySchedule(
            alphas_cumprod=torch.linspace(0.9, 0.1, 10),
            prediction_type="epsilon",
            original_steps=count,
        )
