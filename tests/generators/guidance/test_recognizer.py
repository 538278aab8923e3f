from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.engine import Engine
from generators.guidance.recognizer import Recognizer, rescaled
from generators.guidance.together import Together
from generators.steering.guide import open_guide
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import (
    Laws,
    Params,
    classifier_for,
    target_of,
    with_exact_classifier,
)


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = classifier_for(backbone, folder)
    return [
        {"classifier": path, "guidance_scale": 0.3},
        {"classifier": path, "guidance_scale": 0.5, "sigma_max": None, "looks_at": "x_t"},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "classifier": classifier_for(backbone, folder),
        "guidance_scale": 0.0,
    },
)


class Scaled(torch.nn.Module):
    """Another network's logits, times a number: steeper, and no other order."""

    def __init__(self, network: Any, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits * self.factor


@pytest.mark.parametrize("factor", [1e-3, 1.0])
def test_the_shift_is_a_share_of_the_noise_whatever_the_loss_is_worth(
    mixture: GaussianMixture, factor: float
) -> None:
    """Reference: 1.5 whatever the scale of the loss."""
    models = with_exact_classifier(mixture)
    guide = open_guide(models, "exact", "")
    object.__setattr__(guide, "network", Scaled(guide.network, factor))
    target = target_of(mixture, 1, models=models)
    x_t, levels = torch.tensor([[[0.05, 0.5]]]), mixture.schedule.levels(20)
    guidance = Recognizer(classifier="exact", guidance_scale=1.5)
    engine = Engine(mixture, 4)

    def answers(level: Any) -> list[Any]:
        both = (target.conditional, guidance.denoiser(target))
        return [next(iter(engine.run([(0, each(x_t, level))]))).value for each in both]

    plain, ours = answers(levels[12])
    moved = float((ours.eps - plain.eps).norm() / plain.eps.norm())
    assert moved == pytest.approx(1.5, rel=1e-3)
    early = next(level for level in levels if level.sigma / level.alpha > 2.3)
    plain, ours = answers(early)
    assert torch.equal(plain.eps, ours.eps)


def test_the_gradients_size_does_not_matter_and_no_gradient_moves_nothing() -> None:
    gradient, eps = torch.randn(1, 4, 4), torch.randn(1, 4, 4)
    for factor in (1e-3, 1.0, 1e3):
        found = rescaled(factor * gradient, eps)
        assert float(found.norm()) == pytest.approx(float(eps.norm()), rel=1e-5)
    assert torch.equal(rescaled(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)), torch.zeros(1, 2, 2))


def test_a_step_lowers_the_loss_and_moves_mass(mixture: GaussianMixture) -> None:
    def bed(scale: float) -> float:
        own = {"name": "recognizer", "classifier": "exact", "guidance_scale": scale}
        guidance = Together(methods=[{"name": "cfg", "guidance_scale": 0.0}, own])
        done = run_bed(mixture, guidance, count=300, models=with_exact_classifier(mixture))
        return mass(mixture, values(done))

    found = [bed(scale) for scale in (0.0, 0.2, 0.5)]
    assert found == pytest.approx([0.36, 0.45, 0.53], abs=0.05)


def test_joins_cfg(mixture: GaussianMixture) -> None:
    """w2 = 0 beside cfg is cfg bit for bit."""
    parts = [
        {"name": "cfg", "guidance_scale": 3.0},
        {"name": "recognizer", "classifier": "exact", "guidance_scale": 0.0},
    ]
    models = with_exact_classifier(mixture)
    both = values(run_bed(mixture, Together(methods=parts), count=20, models=models))
    cfg = values(run_bed(mixture, Together(methods=parts[:1]), count=20, models=models))
    assert torch.equal(both, cfg)
