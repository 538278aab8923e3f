import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from generators.errors import CheckpointError, ConfigError
from generators.flow_schedule import FlowSchedule
from generators.noise import NoiseLevel
from generators.prediction import converter
from generators.program import Prediction, Program
from generators.registry import MethodSpec, build

TOKENS = 1024


def schedule_of(linear: bool = False, **settings: Any) -> FlowSchedule:
    config = dict(FlowMatchEulerDiscreteScheduler(**settings).config)
    config["_class_name"] = "FlowMatchEulerDiscreteScheduler"
    return FlowSchedule(scheduler_config=config, num_image_tokens=TOKENS, linear_sigmas=linear)


def reference(steps: int, linear: bool, **settings: Any) -> Any:
    """As the pipelines of SD3 and FLUX set it up."""
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    sigmas = np.linspace(1.0, 1 / steps, steps) if linear else None
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=calculate_shift(TOKENS))
    return scheduler


SETTINGS: list[dict[str, Any]] = [
    {"shift": 3.0},
    {"use_dynamic_shifting": True},
    {"use_dynamic_shifting": True, "time_shift_type": "linear", "shift_terminal": 0.02},
    {"shift": 2.0, "use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"shift": 1.5, "use_beta_sigmas": True},
]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_levels_are_the_schedulers_own(settings: dict[str, Any], linear: bool) -> None:
    schedule, scheduler = schedule_of(linear, **settings), reference(20, linear, **settings)
    levels = schedule.levels(20, 30)

    assert [level.timestep for level in levels[:-1]] == scheduler.timesteps[6:].tolist()
    assert [level.sigma for level in levels] == scheduler.sigmas[6:].tolist()
    assert [level.alpha for level in levels] == [1 - level.sigma for level in levels]
    assert [level.progress for level in levels] == pytest.approx(np.linspace(0, 1, 15).tolist())
    assert levels[-1] == NoiseLevel(timestep=0.0, alpha=1.0, sigma=0.0, progress=1.0)
    assert schedule.levels(20, 30) == levels


def test_a_dynamic_shift_grows_with_the_image() -> None:
    small = schedule_of(True, use_dynamic_shifting=True)
    large = FlowSchedule(
        scheduler_config=small.scheduler_config, num_image_tokens=4096, linear_sigmas=True
    )
    mu = 1.15  # the scheduler's own, at 4096 tokens
    expected = math.exp(mu) / (math.exp(mu) + 1)  # arXiv:2403.03206 Eq. 23 at t = 1/2

    assert large.levels(2)[1].sigma == pytest.approx(expected, rel=1e-6)
    assert small.levels(2)[1].sigma < expected


@pytest.mark.parametrize(("steps", "guidance", "kept"), [(10, 75, 2), (10, 0, 10), (50, 90, 5)])
def test_counts_follow_the_house(steps: int, guidance: int, kept: int) -> None:
    assert len(schedule_of(shift=3.0).levels(steps, guidance)) == kept + 1


@pytest.mark.parametrize("settings", SETTINGS)
def test_ddim_is_eulers_method_on_the_flow(settings: dict[str, Any]) -> None:
    """Against the scheduler's own `step`, for a flow that depends on x and t."""
    levels = schedule_of(**settings).levels(12, 25)
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(2, 4, 4, generator=generator)

    def flow(x: torch.Tensor, timestep: float) -> torch.Tensor:
        return torch.sin(3 * x) + timestep / 1000 * x

    convert = converter("flow")  # the engine's

    def denoise(x_t: torch.Tensor, level: NoiseLevel) -> Program[Prediction]:
        yield ()
        alpha, sigma = torch.tensor(level.alpha), torch.tensor(level.sigma)
        x_0, eps = convert(x_t, flow(x_t, level.timestep), alpha, sigma)
        return Prediction(x_0=x_0, eps=eps)

    program = build("sampler", MethodSpec(name="ddim")).sample(denoise, start, levels, generator)
    made = None
    next(program)
    while made is None:
        try:
            program.send(())
        except StopIteration as stop:
            made = stop.value

    scheduler = reference(12, False, **settings)
    scheduler.set_begin_index(3)
    x = start
    for timestep in scheduler.timesteps[3:]:
        x = scheduler.step(flow(x, float(timestep)), timestep, x).prev_sample
    torch.testing.assert_close(made, x, atol=1e-5, rtol=1e-5)


def test_bad_counts_and_configs() -> None:
    with pytest.raises(ConfigError, match=r"num_inference_steps: 0 .* 1\.\.1000"):
        schedule_of(shift=3.0).levels(0)
    with pytest.raises(ConfigError, match=r"num_inference_steps: 1 .* 2\.\.1000"):
        schedule_of(shift_terminal=0.1).levels(1)
    with pytest.raises(CheckpointError, match=r"_class_name 'DDIMScheduler' .* 'FlowMatchEuler"):
        FlowSchedule(scheduler_config={"_class_name": "DDIMScheduler"}, num_image_tokens=1)
    with pytest.raises(CheckpointError, match="invert_sigmas true"):
        schedule_of(invert_sigmas=True)
