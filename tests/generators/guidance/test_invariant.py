from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture, Toy
from generators.errors import ConfigError
from generators.guidance.invariant import Invariant, delta_model
from generators.guidance_fits.invariant import (
    InvariantFit,
    group_losses,
    infer_groups,
    invariant_loss,
)
from generators.models import Models
from generators.steering.delta import DeltaNetwork
from generators.steering.fit_file import open_fit
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, Params, fitted, materials_for

QUICK = {"steps": 20, "num_losses": 2, "group_steps": 5, "width": 8, "learning_rate": 0.02}


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = fitted("invariant", backbone, folder, **QUICK)
    return [{"module": path, "guidance_scale": scale} for scale in (0.8, 1.0)]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "module": fitted("invariant", backbone, folder, **QUICK),
        "guidance_scale": 0.0,
    },
)


def test_groups_losses_on_hand_made_numbers() -> None:
    losses = torch.tensor([1.0, 3.0, 5.0])
    groups = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert group_losses(losses, groups).tolist() == pytest.approx([2.5 / 1.5, 6.5 / 1.5])
    one = torch.ones(3, 1)
    assert float(invariant_loss(losses, one, 7.0)) == pytest.approx(3.0)  # plain mean
    assert float(invariant_loss(losses, groups, 0.0)) == pytest.approx(3.0)
    spread = (6.5 / 1.5 - 2.5 / 1.5) ** 2 / 4
    assert float(invariant_loss(losses, groups, 2.0)) == pytest.approx(3.0 + 2 * spread, rel=1e-5)
    assert torch.equal(
        invariant_loss(losses, groups, 2.0), invariant_loss(losses, groups.flip(1), 2.0)
    )


def test_planted_groups_are_found() -> None:
    draw = torch.Generator().manual_seed(0)
    hard = torch.rand(200, generator=draw) < 0.4
    losses = torch.where(hard, 2.0, 1.0) + 0.1 * torch.randn(200, generator=draw)
    groups = infer_groups(losses, 2, 500, 1.0, seed=0)
    assert torch.allclose(groups.sum(1), torch.ones(200), atol=1e-5)
    side = groups[:, 0] > 0.5
    agreement = float((side == hard).double().mean())
    assert max(agreement, 1 - agreement) > 0.97
    alone = infer_groups(losses, 3, 300, 1.0, seed=1)
    assert float(alone.mean(0).min()) > 0.05  # none is empty


def test_an_untrained_module_says_nothing() -> None:
    module = DeltaNetwork(3, 4, 8, 2)
    x_t = torch.randn(2, 3, 5, 5)
    out = module(x_t, torch.tensor([10.0, 900.0]), torch.tensor([0, 3]))
    assert torch.equal(out, torch.zeros_like(x_t))


def test_it_brings_back_what_the_generator_forgot(mixture: GaussianMixture, tmp_path: Path) -> None:
    """A generator that knows one of a class's two modes nearly alone, fitted to points of both.

    Its loss on the points of the other mode is what separates the groups; with the module the
    share of that mode rises.
    """
    means = {"both": [[-0.8, -0.6]] * 19 + [[0.8, 0.6]], "other": [[0.0, 0.0]]}
    biased = Toy(means=means).load("cpu")
    assert isinstance(biased, GaussianMixture)
    draw = torch.Generator().manual_seed(2)
    modes = torch.tensor([[-0.8, -0.6], [0.8, 0.6]])
    choice = torch.arange(160) % 2
    points = modes[choice] + 0.02**0.5 * torch.randn(160, 2, generator=draw)
    base = materials_for(biased, Models(biased))
    object.__setattr__(base, "samples", points.view(-1, 1, 1, 2))
    object.__setattr__(base, "labels", torch.zeros(160, dtype=torch.int64))
    path = tmp_path / "invariant.safetensors"
    fit = InvariantFit(num_groups=2, steps=300, num_losses=24, learning_rate=5e-3)
    for _ in fit.fit(base, path):
        pass
    found = open_fit(Models(biased), str(path), "invariant", "").tensors["groups"]
    side = found[:, 0] > 0.5
    agreement = float((side == choice.bool()).double().mean())
    assert max(agreement, 1 - agreement) > 0.9

    def share(scale: float) -> float:
        guidance = Invariant(module=str(path), guidance_scale=scale)
        samples = values(run_bed(biased, guidance, label=0, count=300, steps=25)).flatten(1)
        return float((samples[:, 0] > 0).double().mean())

    assert share(0.0) < 0.1
    assert share(1.0) > 0.2


def test_a_module_belongs_to_its_classes(tiny_unet: Backbone, tmp_path: Path) -> None:
    path = fitted("invariant", tiny_unet, tmp_path, **QUICK)
    assert delta_model(Models(tiny_unet), path).module.training is False
    with pytest.raises(ConfigError, match="a module fitted to the classes"):
        Invariant(module=path).check(Models(tiny_unet, ["wolf", "cat"]))
    with pytest.raises(ConfigError, match="num_groups: 90"):
        InvariantFit(num_groups=91).check(materials_for(tiny_unet))
