from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.engine import Finished
from generators.errors import CheckpointError, ConfigError
from generators.guidance.adaptive import AdaptiveGuidance
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.guidance.linear_adaptive import LinearAdaptive
from generators.guidance_fits.linear_adaptive import (
    LinearAdaptiveFit,
    combine,
    is_predicted,
    least_squares,
)
from generators.models import Models
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, Params, fitted, materials_for


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    return [
        {
            "guidance_scale": scale,
            "coefficients": fitted(
                "linear_adaptive", backbone, folder, guidance_scale=scale, num_trajectories=6
            ),
        }
        for scale in (2.0, 3.5)
    ]


LAWS = Laws(grid=grid_for, off=lambda *_: {"guidance_scale": 1.0, "coefficients": "none"})


def test_least_squares_finds_planted_weights() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 50, generator=draw, dtype=torch.float64)
    planted = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)
    found = least_squares(list(rows), planted @ rows, 0.0)
    torch.testing.assert_close(found, planted)
    noisy = planted @ rows + torch.randn(50, generator=draw, dtype=torch.float64)
    best = least_squares(list(rows), noisy, 1e-8)
    residual = (noisy - best @ rows).norm()
    for row in rows:  # never worse than one of them alone
        alone = least_squares([row], noisy, 0.0)
        assert residual <= (noisy - alone[0] * row).norm() + 1e-9


def test_combine_adds_histories_by_weight() -> None:
    seen, missing = [torch.tensor([1.0]), torch.tensor([2.0])], [torch.tensor([10.0])]
    coefficients = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
    assert combine(coefficients, seen, missing).tolist() == [3 + 2 + 5]


def test_half_of_the_first_half_is_predicted() -> None:
    assert [k for k in range(20) if is_predicted(k, 20)] == [1, 3, 5, 7, 9]


SCALE, STEPS = 7.5, 20


@pytest.fixture(scope="module")
def coefficients(mixture: GaussianMixture, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fitted to class 1 alone, as the reference's runs are."""
    path = tmp_path_factory.mktemp("fit") / "linear.safetensors"
    materials = materials_for(mixture, Models(mixture, walks=[mixture.schedule.levels(STEPS)]))
    own = materials.labels == 1
    object.__setattr__(materials, "samples", materials.samples[own])
    object.__setattr__(materials, "labels", materials.labels[own])
    fit = LinearAdaptiveFit(guidance_scale=SCALE, num_trajectories=200)
    assert [step.done for step in fit.fit(materials, path)] == list(range(1, STEPS + 1))
    return str(path)


def apart(one: list[Finished[int, torch.Tensor]], other: torch.Tensor) -> float:
    return float((values(one) - other).square().mean().sqrt())


def test_at_equal_cost_it_ends_nearer_to_cfg(mixture: GaussianMixture, coefficients: str) -> None:
    """Reference, 20 steps, w 7.5, 25 evaluations: RMSE .022, Adaptive Guidance .117."""
    cfg = values(run_bed(mixture, ClassifierFreeGuidance(guidance_scale=SCALE), steps=STEPS))
    linear = LinearAdaptive(guidance_scale=SCALE, coefficients=coefficients)
    ours = run_bed(mixture, linear, steps=STEPS)
    assert {done.num_model_calls for done in ours} == {25}
    stopping = AdaptiveGuidance(guidance_scale=SCALE, threshold=-1, warmup=4 / STEPS)
    stopped = run_bed(mixture, stopping, steps=STEPS)
    assert {done.num_model_calls for done in stopped} == {25}
    assert apart(ours, cfg) == pytest.approx(0.022, abs=0.02)
    assert apart(ours, cfg) < 0.5 * apart(stopped, cfg)


def test_a_fit_belongs_to_a_scale_and_to_steps(mixture: GaussianMixture, coefficients: str) -> None:
    walk = mixture.schedule.levels(STEPS)
    LinearAdaptive(guidance_scale=SCALE, coefficients=coefficients).check(
        Models(mixture, walks=[walk])
    )
    with pytest.raises(ConfigError, match=r"guidance_scale: 3.0 .* 7.5"):
        LinearAdaptive(guidance_scale=3.0, coefficients=coefficients).check(Models(mixture))
    other = Models(mixture, walks=[mixture.schedule.levels(STEPS, 40)])
    with pytest.raises(ConfigError, match="runs of 12 steps"):
        LinearAdaptive(guidance_scale=SCALE, coefficients=coefficients).check(other)


def test_a_fit_belongs_to_a_network(tiny_unet: Backbone, coefficients: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a fit for this network"):
        LinearAdaptive(guidance_scale=SCALE, coefficients=coefficients).check(Models(tiny_unet))
    (tmp_path / "x").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        LinearAdaptive(coefficients=str(tmp_path / "x")).check(Models(tiny_unet))
