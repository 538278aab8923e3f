from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture, Toy
from generators.errors import ConfigError
from generators.guidance.composable import ComposableDiffusion, Condition
from generators.models import Models
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import Laws, Params


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    first, second, *_ = backbone.class_names or ()
    return [
        {"guidance_scale": 2.0, "conditions": [{"class_name": second, "weight": 1.5}]},
        {"guidance_scale": 1.0, "conditions": [{"class_name": first, "weight": -0.5}]},
        {"guidance_scale": 3.0},
    ]


LAWS = Laws(grid=grid_for, off=lambda *_: {"guidance_scale": 1.0})


def composed(*weights: tuple[str, float], own: float = 0.0) -> ComposableDiffusion:
    conditions = tuple(Condition(class_name=name, weight=weight) for name, weight in weights)
    return ComposableDiffusion(guidance_scale=own, conditions=conditions)


def test_order_and_division_of_weights_do_not_matter(mixture: GaussianMixture) -> None:
    one, other, halves = (
        values(run_bed(mixture, guidance, count=30, steps=10))
        for guidance in (
            composed(("left", 0.5), ("rare", 0.7), own=2),
            composed(("rare", 0.7), ("left", 0.5), own=2),
            composed(("rare", 0.7), ("left", 0.25), ("left", 0.25), own=2),
        )
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    torch.testing.assert_close(one, halves, atol=1e-5, rtol=0)


def test_not_takes_mass_from_a_class(mixture: GaussianMixture) -> None:
    """Reference, from the unconditional start: NOT class 0 with 0, .5, 1: mass .590, .427, .301."""
    found = [
        mass(mixture, values(run_bed(mixture, composed(("left", -w)), count=400)), label=0)
        for w in (0.0, 0.5, 1.0)
    ]
    assert found == pytest.approx([0.59, 0.427, 0.301], abs=0.05)


def test_and_of_independent_conditions_is_exact() -> None:
    """Each class says one coordinate: both together say both (reference: means .978, -.977)."""
    far = [[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    bed = Toy(
        means={
            "all": far,
            "right": [m for m in far if m[0] > 0],
            "low": [m for m in far if m[1] < 0],
        },
        prior={"all": 1 - 2e-9, "right": 1e-9, "low": 1e-9},
    ).load("cpu")
    assert isinstance(bed, GaussianMixture)
    guidance = composed(("right", 1.0), ("low", 1.0))
    found = values(run_bed(bed, guidance, count=400)).flatten(1)
    assert found.mean(0).tolist() == pytest.approx([1, -1], abs=0.06)
    assert float(((found[:, 0] > 0) & (found[:, 1] < 0)).double().mean()) > 0.99


def test_mistakes_are_found_before_any_work(mixture: GaussianMixture) -> None:
    models = Models(mixture)
    with pytest.raises(ConfigError, match=r"conditions\.0\.class_name: 'lefd' .*'left'"):
        composed(("lefd", 1.0)).check(models)
    with pytest.raises(ConfigError, match=r"conditions\.0\.prompt: 'a cat' .* not on text"):
        ComposableDiffusion(conditions=(Condition(weight=1, prompt="a cat"),)).check(models)
    with pytest.raises(ConfigError, match=r"conditions\.0: None .* a class_name or a prompt"):
        ComposableDiffusion(conditions=(Condition(weight=1),)).check(models)
