from typing import Any

import pytest
import torch

from generators.errors import ConfigError
from generators.guidance.base import Target
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Prediction
from tests.conftest import MIXTURE
from tests.support.guidance import Laws, given

LEVEL = NoiseLevel(timestep=7, alpha=0.6, sigma=0.8, progress=0)
X_T = torch.tensor([[[0.5]]])
COND, UNCOND = {"class": torch.tensor([1])}, {"class": torch.tensor([9])}
TARGET = Target(cond=COND, uncond=UNCOND, label=1, source=None, models=Models(MIXTURE.load("cpu")))
LAWS = Laws(
    grid=given(
        {"guidance_scale": 2.0},
        {"guidance_scale": 0.0},
        {"guidance_scale": 4.5, "rescale": 0.7},
        {"guidance_scale": 3.0, "schedule": "linear", "sigma_max": 3.0},
    ),
    off=lambda *_: {"guidance_scale": 1.0},
)


def prediction(x_0: float, eps: float) -> Prediction:
    return Prediction(x_0=torch.tensor([[[x_0]]]), eps=torch.tensor([[[eps]]]))


@pytest.mark.parametrize(("scale", "x_0", "eps"), [(2.0, 0.7, -0.4), (0.5, 0.25, 0.65)])
def test_extrapolates_from_unconditional_through_conditional(
    scale: float, x_0: float, eps: float
) -> None:
    """x_0: 0.1 + w (0.4 - 0.1); eps: 1.0 + w (0.3 - 1.0)."""
    program = ClassifierFreeGuidance(guidance_scale=scale).denoiser(TARGET)(X_T, LEVEL)
    calls = next(program)
    assert [call.cond for call in calls] == [UNCOND, COND]
    assert all(call.level is LEVEL and call.x_t is X_T for call in calls)

    with pytest.raises(StopIteration) as stop:
        program.send((prediction(0.1, 1.0), prediction(0.4, 0.3)))

    assert float(stop.value.value.x_0) == pytest.approx(x_0)
    assert float(stop.value.value.eps) == pytest.approx(eps)


@pytest.mark.parametrize(("scale", "cond"), [(0.0, UNCOND), (1.0, COND)])
def test_scales_zero_and_one_ask_once_and_pass_the_answer_on(
    scale: float, cond: dict[str, torch.Tensor]
) -> None:
    guidance = ClassifierFreeGuidance(guidance_scale=scale)
    program = guidance.denoiser(TARGET)(X_T, LEVEL)
    (call,) = next(program)
    answer = prediction(0.1, 1.0)
    with pytest.raises(StopIteration) as stop:
        program.send((answer,))

    assert call.cond is cond
    assert stop.value.value is answer
    assert guidance.calls_per_step == 1
    assert guidance.needs_unconditional is (scale == 0)


def test_the_mix_keeps_x_t_equal_to_signal_plus_noise() -> None:
    """Weights that sum to one keep x_t = alpha x_0 + sigma eps true, whatever the scale."""
    no = prediction(0.1, (0.5 - 0.6 * 0.1) / 0.8)
    yes = prediction(-0.9, (0.5 - 0.6 * -0.9) / 0.8)
    program = ClassifierFreeGuidance(guidance_scale=7.5).denoiser(TARGET)(X_T, LEVEL)
    next(program)
    with pytest.raises(StopIteration) as stop:
        program.send((no, yes))
    mixed = stop.value.value

    torch.testing.assert_close(0.6 * mixed.x_0 + 0.8 * mixed.eps, X_T)


def at(alpha: float, sigma: float, progress: float = 0.0) -> NoiseLevel:
    return NoiseLevel(timestep=7, alpha=alpha, sigma=sigma, progress=progress)


@pytest.mark.parametrize(
    ("sigma", "guided"), [(0.2, False), (0.4, True), (1.0, True), (2.0, False)]
)
def test_outside_its_interval_it_costs_one_evaluation(sigma: float, guided: bool) -> None:
    guidance = ClassifierFreeGuidance(guidance_scale=4, sigma_min=0.3, sigma_max=1.5)
    calls = next(guidance.denoiser(TARGET)(X_T, at(0.5, 0.5 * sigma)))
    assert [call.cond for call in calls] == ([UNCOND, COND] if guided else [COND])


def test_no_signal_counts_as_endless_noise() -> None:
    assert ClassifierFreeGuidance(guidance_scale=4).scale_at(at(0.0, 1.0)) == 4
    assert ClassifierFreeGuidance(guidance_scale=4, sigma_max=9).scale_at(at(0.0, 1.0)) == 1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_growing_scales_have_the_mean_of_a_constant_one(schedule: Any) -> None:
    guidance = ClassifierFreeGuidance(guidance_scale=5, schedule=schedule)
    scales = [guidance.scale_at(at(0.6, 0.8, (i + 0.5) / 100)) for i in range(100)]
    assert sum(scales) / 100 == pytest.approx(5)
    assert scales == sorted(scales)
    assert guidance.scale_at(at(0.6, 0.8, 0)) == 1
    assert guidance.scale_at(at(0.6, 0.8, 1)) == pytest.approx(9)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescaling_is_diffusers_on_what_the_network_says(share: float) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    draw = torch.Generator().manual_seed(0)
    x_t, no, yes = (torch.randn(3, 4, 4, generator=draw) for _ in range(3))
    guidance = ClassifierFreeGuidance(guidance_scale=6, rescale=share)
    program = guidance.denoiser(TARGET)(x_t, LEVEL)  # the mixture predicts epsilon
    next(program)
    answers = (Prediction(x_0=(x_t - 0.8 * e) / 0.6, eps=e) for e in (no, yes))
    with pytest.raises(StopIteration) as stop:
        program.send(tuple(answers))
    guided = torch.lerp(no, yes, 6.0)
    wanted = rescale_noise_cfg(guided[None], yes[None], guidance_rescale=share)[0]
    torch.testing.assert_close(stop.value.value.eps, wanted)
    torch.testing.assert_close(0.6 * stop.value.value.x_0 + 0.8 * wanted, x_t)


def test_what_cannot_be_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"sigma_max: 0\.5 .* more than sigma_min, 2"):
        ClassifierFreeGuidance(sigma_min=2, sigma_max=0.5).check(TARGET.models)
