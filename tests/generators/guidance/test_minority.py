from pathlib import Path
from typing import Any

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.errors import ConfigError
from generators.guidance.minority import Minority
from generators.guidance.together import Together
from generators.guidance_fits.minority import MinorityFit, equal_bins
from generators.models import Models
from generators.steering.fit_file import open_fit
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, Params, fitted, materials_for, mixture_points

QUICK = {"num_bins": 4, "steps": 5, "num_draws": 1}


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = fitted("minority", backbone, folder, **QUICK)
    return [
        {"classifier": path, "guidance_scale": 5.0},
        {"classifier": path, "guidance_scale": 9.0, "bin": 0},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "classifier": fitted("minority", backbone, folder, **QUICK),
        "guidance_scale": 0.0,
    },
)


def test_bins_are_of_equal_size_in_the_order_of_scores() -> None:
    scores = torch.tensor([0.3, 0.1, 0.9, 0.1, 0.5, 0.7, 0.2])
    bins = equal_bins(scores, 3)
    assert bins.tolist() == [1, 0, 2, 0, 1, 2, 0]
    assert sorted(torch.bincount(bins).tolist()) == [2, 2, 3]


@pytest.fixture(scope="module")
def fit(mixture: GaussianMixture, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """On points drawn as the prior has them: few of the rare class; unconditional scores."""
    draw = torch.Generator().manual_seed(7)
    labels = torch.multinomial(mixture._prior.float(), 600, replacement=True, generator=draw)
    materials = materials_for(mixture, Models(mixture))
    object.__setattr__(materials, "samples", mixture_points(mixture, labels, draw))
    object.__setattr__(materials, "labels", labels)
    path = tmp_path_factory.mktemp("fit") / "minority.safetensors"
    method = MinorityFit(conditional=False, num_draws=30, num_bins=5, steps=300, learning_rate=3e-3)
    method.check(materials)
    losses = [step.loss for step in method.fit(materials, path) if step.loss is not None]
    assert losses[-1] < losses[0]
    return str(path), labels


def test_the_rare_class_is_found_unusual(mixture: GaussianMixture, fit: Any) -> None:
    """Reference, area under the curve of rare against the rest: .988 at timestep 200 of 1000."""
    path, labels = fit
    scores = open_fit(Models(mixture), path, "minority", "").tensors["scores"]
    rare, rest = scores[labels == 2], scores[labels != 2]
    area = float((rare[:, None] > rest[None]).double().mean())
    assert area > 0.97


def test_guided_samples_are_scored_higher_the_stronger(mixture: GaussianMixture, fit: Any) -> None:
    """Judged by the exact posterior: more mass of the rare class, and less for the typical bin."""
    path, _ = fit

    def rare(scale: float, wanted: int | None) -> float:
        own = {"name": "minority", "classifier": path, "guidance_scale": scale, "bin": wanted}
        guidance = Together(methods=[{"name": "cfg", "guidance_scale": 0.0}, own])
        found = values(run_bed(mixture, guidance, count=150, eta=1.0))
        return float(mixture.class_posterior(found, 1.0, 1e-3)[:, 2].mean())

    found = [rare(scale, None) for scale in (0.0, 1.0, 3.0)]
    assert found == sorted(found)
    assert found[2] > found[0] + 0.1
    assert rare(2.0, 0) < found[0] + 0.02


def test_mistakes_are_found(tiny_unet: Backbone, tmp_path: Path) -> None:
    path, models = fitted("minority", tiny_unet, tmp_path, **QUICK), Models(tiny_unet)
    with pytest.raises(ConfigError, match=r"guidance\.bin: 4 .* 0\.\.3"):
        Minority(classifier=path, bin=4).check(models)
    with pytest.raises(ConfigError, match=r"num_bins: 90 .* 100 images or more"):
        MinorityFit(num_bins=100).check(materials_for(tiny_unet))
    other = fitted("invariant", tiny_unet, tmp_path, steps=1, num_losses=1, group_steps=1)
    with pytest.raises(ConfigError, match="a file of discl fit-guidance minority"):
        Minority(classifier=other).check(models)
