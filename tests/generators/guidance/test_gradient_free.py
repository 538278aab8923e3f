from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.errors import ConfigError
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.guidance.gradient_free import GradientFree
from generators.models import Models
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import Laws, Params, classifier_for, with_exact_classifier


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = classifier_for(backbone, folder)
    return [
        {"classifier": path, "guidance_scale": 3.0},
        {"classifier": path, "guidance_scale": 4.0, "rule": "doubt", "reuse_estimate": True},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "classifier": classifier_for(backbone, folder),
        "guidance_scale": 1.0,
    },
)


def test_reference_is_the_likeliest_other_class() -> None:
    guidance = GradientFree(classifier="", guidance_scale=5.0)
    found, weight = guidance.reference(torch.tensor([0.6, 0.1, 0.3]), 0)
    assert (found, weight) == (2, pytest.approx(4 * 0.3 / 0.9))
    doubting = GradientFree(classifier="", guidance_scale=5.0, rule="doubt")
    assert doubting.reference(torch.tensor([0.6, 0.1, 0.3]), 1) == (0, pytest.approx(4 * 0.9))


@pytest.mark.parametrize("rule", ["ratio", "doubt"])
def test_certain_is_left_alone_and_of_two_classes_the_other_is_taken(rule: str) -> None:
    guidance = GradientFree(classifier="", rule=rule)  # type: ignore[arg-type]
    assert guidance.reference(torch.tensor([0.0, 1.0, 0.0]), 1)[1] == 0
    for label in (0, 1):
        assert guidance.reference(torch.tensor([0.5, 0.5]), label)[0] == 1 - label


def test_cfg_is_the_mean_of_its_directions(mixture: GaussianMixture) -> None:
    """eps_c - eps_u = sum over k of p(k | x_t) (eps_c - eps_k), exactly."""
    level = mixture.schedule.levels(20)[9]
    x_t, names = torch.randn(6, 1, 1, 2, dtype=torch.float64), mixture.class_names or ()
    alpha, sigma = torch.full((6,), level.alpha), torch.full((6,), level.sigma)
    eps = [
        mixture.exact_eps(x_t, alpha, sigma, mixture.condition([""], [name])[0]) for name in names
    ]
    nothing = mixture.exact_eps(x_t, alpha, sigma, mixture.unconditional())
    posterior = mixture.class_posterior(x_t, float(alpha[0]), float(sigma[0]))
    mixed = sum(posterior[:, k].view(-1, 1, 1, 1) * (eps[1] - eps[k]) for k in range(3))
    torch.testing.assert_close(eps[1] - nothing, mixed, atol=1e-6, rtol=0)


def test_contracts_less_than_cfg_at_the_same_scale(mixture: GaussianMixture) -> None:
    """Reference: variance .189, .186 at w_max 2, 4; cfg .172, .160; w = 1 .190."""
    models = with_exact_classifier(mixture, variance=0.02)
    for scale in (2.0, 4.0):
        ours = GradientFree(classifier="exact", guidance_scale=scale)
        free = values(run_bed(mixture, ours, count=250, models=models)).flatten(1)
        cfg = ClassifierFreeGuidance(guidance_scale=scale)
        guided = values(run_bed(mixture, cfg, count=250)).flatten(1)
        assert float(free.var(0).sum()) > 1.03 * float(guided.var(0).sum())
        assert mass(mixture, free.view(-1, 1, 1, 2)) > 0.95


def test_reusing_the_estimate_costs_a_call_less_and_ends_near(mixture: GaussianMixture) -> None:
    def bed(reuse: bool) -> tuple[int, torch.Tensor]:
        ours = GradientFree(classifier="exact", guidance_scale=3, reuse_estimate=reuse)
        done = run_bed(mixture, ours, count=100, models=with_exact_classifier(mixture))
        return done[0].num_model_calls, values(done)

    (calls, exact), (fewer, reused) = bed(False), bed(True)
    assert (calls, fewer) == (100, 99)
    assert float((exact - reused).square().mean().sqrt()) < 0.1


def test_one_class_has_no_other(mixture: GaussianMixture, tmp_path: Path) -> None:
    path = classifier_for(mixture, tmp_path)
    with pytest.raises(ConfigError, match="two classes"):
        GradientFree(classifier=path).check(Models(mixture, ["left"]))
