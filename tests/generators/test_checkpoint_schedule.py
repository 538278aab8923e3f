from typing import Any

import diffusers
import pytest
import torch

from generators.checkpoint_schedule import ON_SIGMAS, ON_TIMESTEPS, SigmaSchedule, read_schedule
from generators.errors import CheckpointError, ConfigError
from generators.noise import NoiseSchedule

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def config_of(name: str, **settings: Any) -> dict[str, Any]:
    return dict(getattr(diffusers, name)(**SCALED, **settings).config, _class_name=name)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", sorted(ON_SIGMAS))
def test_levels_are_what_the_scheduler_adds_and_visits(name: str, spacing: str) -> None:
    schedule = read_schedule(config_of(name, timestep_spacing=spacing))
    levels = schedule.levels(12, 50)
    scheduler = getattr(diffusers, name)(**SCALED, timestep_spacing=spacing)
    scheduler.set_timesteps(12)

    assert len(levels) == 7
    assert [level.timestep for level in levels[:-1]] == scheduler.timesteps[6:].tolist()
    one, noise = torch.ones(1, 1), torch.full((1, 1), 100.0)
    for level, timestep in zip(levels, scheduler.timesteps[6:], strict=False):
        noised = scheduler.add_noise(one, noise, timestep[None])
        if name.startswith(("Euler", "LMS")):  # they add noise in another scale
            noised = scheduler.scale_model_input(noised, timestep)
            scheduler._step_index = None
        assert level.alpha + 100 * level.sigma == pytest.approx(float(noised), rel=1e-5)
    end = levels[-1]
    assert end.sigma / end.alpha == pytest.approx(float(scheduler.sigmas[-1]))  # 0 but for DEIS
    assert end.alpha**2 + end.sigma**2 == pytest.approx(1)


@pytest.mark.parametrize("option", ["use_karras_sigmas", "use_exponential_sigmas"])
def test_sigmas_may_be_spaced_otherwise(option: str) -> None:
    schedule = read_schedule(config_of("DPMSolverMultistepScheduler", **{option: True}))
    scheduler = diffusers.DPMSolverMultistepScheduler(**SCALED, **{option: True})
    scheduler.set_timesteps(10)
    ratios = [level.sigma / level.alpha for level in schedule.levels(10)]
    assert ratios == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6)


@pytest.mark.parametrize("name", sorted(ON_TIMESTEPS))
def test_a_bare_config_means_what_its_own_class_makes_of_it(name: str) -> None:
    """Defaults differ: PNDM ends at its table's first level, Heun spaces linearly."""
    schedule = read_schedule({"_class_name": name, **SCALED})
    own = getattr(diffusers, name)(**SCALED)

    assert isinstance(schedule, NoiseSchedule)
    assert schedule.timestep_spacing == own.config.timestep_spacing
    torch.testing.assert_close((schedule.alphas**2).float(), own.alphas_cumprod)
    final = own.final_alpha_cumprod if name.startswith(("PNDM", "DDIM")) else torch.ones(())
    assert schedule.final_alpha**2 == pytest.approx(float(final))


def test_the_first_release_named_no_class() -> None:
    schedule = read_schedule({"beta_schedule": "linear", "clip_sample": True, "timestep_values": 1})
    assert isinstance(schedule, NoiseSchedule)
    assert schedule.timestep_spacing == "leading"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "DDIMSchedule"}, "'DDIMSchedule' is not supported.*did you mean 'DDIM"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "'ScoreSdeVeScheduler' is not supported"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "is not supported; expected one of"),
        (
            config_of("DPMSolverMultistepScheduler", prediction_type="flow_prediction"),
            "prediction_type 'flow_prediction' is not supported; expected one of 'epsilon'",
        ),
    ],
)
def test_schedules_of_another_kind_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_schedule(config)


def test_step_counts_have_bounds() -> None:
    schedule = read_schedule(config_of("EulerDiscreteScheduler"))
    assert isinstance(schedule, SigmaSchedule)
    assert len(schedule.levels(10, 100)) == len(schedule.levels(10, 91)) == 1
    with pytest.raises(ConfigError, match=r"num_inference_steps: 1001 .* 1\.\.1000"):
        schedule.levels(1001)
