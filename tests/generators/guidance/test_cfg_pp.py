from itertools import pairwise

import pytest
import torch

from generators.backbones.toy import GaussianMixture
from generators.guidance.cfg_pp import CfgPlusPlus
from generators.program import ModelCall
from generators.registry import MethodSpec
from tests.generators.guidance.test_cfg import COND, LEVEL, TARGET, UNCOND, X_T, prediction
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given({"guidance_scale": 0.6}, {"guidance_scale": 0.2}, {"guidance_scale": 1.0}),
    off=lambda *_: {"guidance_scale": 0.0},
    off_equals=MethodSpec(name="cfg", params={"guidance_scale": 0.0}),
)


def test_the_clean_image_is_guided_and_the_noise_is_not() -> None:
    program = CfgPlusPlus(guidance_scale=0.25).denoiser(TARGET)(X_T, LEVEL)
    assert [call.cond for call in next(program) if isinstance(call, ModelCall)] == [UNCOND, COND]
    with pytest.raises(StopIteration) as stop:
        program.send((prediction(0.1, 1.0), prediction(0.5, 0.3)))
    assert float(stop.value.value.x_0) == pytest.approx(0.2)
    assert float(stop.value.value.eps) == 1.0


def test_with_ddim_it_is_cfg_with_a_scale_that_grows_and_falls(mixture: GaussianMixture) -> None:
    """omega_t = lambda s / (s - s'), s = sigma / alpha (reference: equal to round-off)."""
    scale, steps = 0.6, 50
    levels = mixture.schedule.levels(steps)
    ratios = [level.sigma / level.alpha for level in levels]
    omegas = [scale * s / (s - after) for s, after in pairwise(ratios)]
    assert sum(omegas) / len(omegas) / scale == pytest.approx(12, abs=1)
    x = torch.randn(200, 1, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    for omega, (level, after) in zip(omegas, pairwise(levels), strict=True):
        alpha, sigma = (x.new_tensor([v]).expand(len(x)) for v in (level.alpha, level.sigma))
        no, yes = (
            mixture.exact_eps(x, alpha, sigma, cond)
            for cond in (mixture.unconditional(), mixture.condition([""], ["right"])[0])
        )
        eps = no + omega * (yes - no)
        x = after.alpha * (x - level.sigma * eps) / level.alpha + after.sigma * eps
    ours = values(run_bed(mixture, CfgPlusPlus(guidance_scale=scale), count=200, steps=steps))
    torch.testing.assert_close(ours.double(), x, atol=2e-3, rtol=0)
