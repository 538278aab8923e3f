import pytest
import torch

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
