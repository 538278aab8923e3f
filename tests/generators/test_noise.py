import pytest
import torch

from generators.errors import ConfigError
from generators.noise import NoiseSchedule


def schedule(**settings: object) -> NoiseSchedule:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return NoiseSchedule.from_alphas_cumprod((1 - betas).cumprod(0), "epsilon", **settings)


def test_levels_fall_from_noise_to_clean() -> None:
    levels = schedule().levels(7)

    assert [level.timestep for level in levels] == [999, 856, 713, 570, 428, 285, 142, 0]
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1) for level in levels)
    sigmas = [level.sigma for level in levels]
    assert sigmas == sorted(sigmas, reverse=True)
    assert (levels[-1].alpha, levels[-1].sigma, levels[-1].progress) == (1.0, 0.0, 1.0)
    assert [level.progress for level in levels] == [pytest.approx(i / 7) for i in range(8)]


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("trailing", [999, 749, 499, 249]),
        ("leading", [751, 501, 251, 1]),
        ("linspace", [999, 666, 333, 0]),
    ],
)
def test_spacings_choose_the_timesteps_of_lin_et_al(spacing: str, expected: list[int]) -> None:
    levels = schedule(timestep_spacing=spacing, steps_offset=1).levels(4)

    assert [level.timestep for level in levels[:-1]] == expected


@pytest.mark.parametrize("image_guidance", [0, 1, 10, 37, 50, 90, 97, 98, 99, 100])
def test_a_level_runs_the_last_steps_of_the_whole_schedule(image_guidance: int) -> None:
    whole, part = schedule().levels(50), schedule().levels(50, image_guidance)
    kept = 50 * (100 - image_guidance) // 100

    assert len(part) == kept + 1
    assert [level.timestep for level in part] == [level.timestep for level in whole[50 - kept :]]


def test_final_alpha_of_a_checkpoint_is_kept() -> None:
    end = schedule(set_alpha_to_one=False).levels(4)[-1]

    assert end.alpha**2 == pytest.approx(1 - 1e-4)
    assert end.sigma**2 == pytest.approx(1e-4)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_name_what_is_possible(steps: int) -> None:
    with pytest.raises(ConfigError, match=r"num_inference_steps: .* expected 1\.\.1000"):
        schedule().levels(steps)
