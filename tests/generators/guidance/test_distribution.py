from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.errors import CheckpointError, ConfigError
from generators.guidance.distribution import Distribution, Wish
from generators.guidance.together import Together
from generators.models import Models
from generators.registry import JsonValue
from generators.steering.energies import LinearEnergy
from generators.steering.guide import open_guide
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import Laws, Params, classifier_for, with_exact_classifier


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    one, other = (classifier_for(backbone, folder, seed) for seed in (1, 2))
    name = (backbone.class_names or ())[2]
    return [
        {"wishes": [{"classifier": one}], "guidance_scale": 6.0},
        {"wishes": [{"classifier": one}, {"classifier": other, "class_name": name, "weight": 9.0}]},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "wishes": [{"classifier": classifier_for(backbone, folder)}],
        "guidance_scale": 0.0,
    },
)


def test_energy_on_hand_made_numbers(mixture: GaussianMixture) -> None:
    guide = open_guide(with_exact_classifier(mixture), "exact", "")
    x = torch.randn(4, 1, 1, 2)
    weights, tilts = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.5, -1.0]])
    inputs = {"weights": weights.repeat(4, 1), "tilts": tilts.repeat(4, 1)}
    probability = guide.logits(x).softmax(1)
    expected = 2 * probability[:, 1].log() + 0.5 * probability[:, 1] - probability[:, 2]
    torch.testing.assert_close(LinearEnergy(guide)(x, torch.zeros(4), inputs), expected)


def guided(mixture: GaussianMixture, *wishes: dict[str, JsonValue]) -> torch.Tensor:
    own = {"name": "distribution", "wishes": [{"classifier": "exact", **w} for w in wishes]}
    methods = [{"name": "cfg", "guidance_scale": 0.0}, own]
    models = with_exact_classifier(mixture)
    done = run_bed(mixture, Together(methods=methods), count=120, eta=1.0, models=models)
    return values(done)


def test_wishes_add_up(mixture: GaussianMixture) -> None:
    """Towards a class; against it; both at once cancel; twice a half is one."""
    for_it = mass(mixture, guided(mixture, {"class_name": "right"}))
    against = mass(mixture, guided(mixture, {"class_name": "right", "weight": -0.3}))
    both = mass(
        mixture,
        guided(mixture, {"class_name": "right"}, {"class_name": "right", "weight": -1.0}),
    )
    assert against < 0.3 < for_it
    assert for_it > 0.9
    assert both == pytest.approx(0.355, abs=0.12)
    halves = guided(mixture, *[{"class_name": "right", "weight": 0.5}] * 2)
    torch.testing.assert_close(halves, guided(mixture, {"class_name": "right"}), atol=1e-3, rtol=0)


def test_mistakes_are_found(tiny_unet: Backbone, tmp_path: Path) -> None:
    path, models = classifier_for(tiny_unet, tmp_path), Models(tiny_unet)
    with pytest.raises(ConfigError, match=r"wishes\.0\.class_name: 'cow'"):
        Distribution(wishes=(Wish(classifier=path, class_name="cow"),)).check(models)
    with pytest.raises(ConfigError, match=r"wishes\.0\.balance: 'x' .* a class_name or a balance"):
        Distribution(wishes=(Wish(classifier=path, class_name="cat", balance="x"),)).check(models)
    with pytest.raises(CheckpointError, match="discl fit-guidance distribution makes it"):
        Distribution(wishes=(Wish(classifier=path, balance=str(tmp_path / "x")),)).check(models)
