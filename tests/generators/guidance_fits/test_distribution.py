from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.errors import ConfigError
from generators.guidance.distribution import Distribution, Wish
from generators.guidance.together import Together
from generators.guidance_fits.distribution import DistributionFit, solve_tilts
from generators.models import Models
from generators.steering.fit_file import open_fit
from tests.support.beds import run_bed, values
from tests.support.guidance import classifier_for, materials_for, with_exact_classifier


def test_eighty_to_twenty_made_even_is_ln_four() -> None:
    features = torch.eye(2, dtype=torch.float64)[torch.tensor([0] * 80 + [1] * 20)]
    beta = solve_tilts(features, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert float(beta[1] - beta[0]) == pytest.approx(torch.tensor(4.0).log().item(), abs=1e-6)
    assert float(beta.sum()) == pytest.approx(0, abs=1e-9)


def test_weighed_images_have_the_wanted_means() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.rand(400, 4, generator=draw, dtype=torch.float64).softmax(1)
    wanted = features.mean(0) + torch.tensor([0.02, -0.01, -0.02, 0.01], dtype=torch.float64)
    beta = solve_tilts(features, wanted)
    torch.testing.assert_close((features @ beta).softmax(0) @ features, wanted, atol=1e-7, rtol=0)


def test_shares_of_guided_samples_move_towards_the_wanted(
    mixture: GaussianMixture, tmp_path: Path
) -> None:
    """Unconditional samples are 60, 35 and 5 %: asked for the rare class, it is seen more often.

    Tilting each sample's probabilities is no exact tilt of the distribution: only the direction and
    part of the way are promised.
    """
    models = with_exact_classifier(mixture)
    fit = DistributionFit(
        classifier="exact", shares={"left": 0.2, "right": 0.2, "rare": 0.6}, num_images=90
    )
    materials = materials_for(mixture, models, num_inference_steps=10)
    fit.check(materials)
    path = str(tmp_path / "tilts")
    assert [step.done for step in fit.fit(materials, Path(path))] == [1, 2]
    tilts = open_fit(models, path, "distribution", "").tensors["tilts"]
    assert int(tilts.argmax()) == 2
    wish = {"classifier": "exact", "balance": path}
    Distribution(wishes=(Wish(**wish),)).check(models)  # type: ignore[arg-type]

    def rare(scale: float) -> float:
        own = {"name": "distribution", "wishes": [wish], "guidance_scale": scale}
        guidance = Together(methods=[{"name": "cfg", "guidance_scale": 0.0}, own])
        found = values(run_bed(mixture, guidance, count=150, eta=1.0, models=models))
        return float(mixture.class_posterior(found, 1.0, 1e-3)[:, 2].mean())

    assert rare(0.0) == pytest.approx(0.05, abs=0.04)
    assert rare(3.0) > rare(0.0) + 0.05


def test_mistakes_are_found(tiny_unet: Backbone, tmp_path: Path) -> None:
    path, materials = classifier_for(tiny_unet, tmp_path), materials_for(tiny_unet)
    with pytest.raises(ConfigError, match=r"shares\.cow: 'cow'"):
        DistributionFit(classifier=path, shares={"cow": 0.5}).check(materials)
    with pytest.raises(ConfigError, match="that sum to 1"):
        DistributionFit(classifier=path, shares={"cat": 0.5}).check(materials)
    other = materials_for(tiny_unet, Models(tiny_unet))
    DistributionFit(classifier=path, num_images=4).check(other)
