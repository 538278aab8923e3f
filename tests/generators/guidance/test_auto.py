from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture, Toy
from generators.errors import CheckpointError, ConfigError
from generators.fit import Fit
from generators.fit_spec import FitSpec
from generators.guidance.auto import AutoGuidance
from generators.models import Models
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import Laws, Params

BED = {
    "means": {
        "left": [[-1.0, -0.6], [-0.8, 0.6]],
        "right": [[0.9, 0.7], [1.1, -0.1]],
        "rare": [[0.1, 1.2], [0.2, -1.2]],
    },
    "prior": {"left": 0.6, "right": 0.35, "rare": 0.05},
}
WIDE = {"name": "toy", "variance": 0.08, **BED}
"""The reference mixture with components four times as wide: what an unfinished network is."""


def weak_for(backbone: Backbone, folder: Path) -> Params:
    if isinstance(backbone, GaussianMixture):
        return dict(WIDE)
    path = folder / "weak"
    spec = FitSpec(block_out_channels=(8, 16), seed=9)
    names = backbone.class_names or ()
    pixels = torch.zeros(1, *backbone.pixel_shape, dtype=torch.uint8)
    Fit(spec, pixels, torch.tensor([0]), len(names), "cpu").save(path, {"class_names": names})
    return {"name": "pixel_unet", "path": str(path)}


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    weak = weak_for(backbone, folder)
    return [{"weak": weak, "guidance_scale": scale} for scale in (2.0, 1.4, 0.5)]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {"weak": weak_for(backbone, folder), "guidance_scale": 1.0},
)


def test_a_network_is_not_guided_by_itself(mixture: GaussianMixture) -> None:
    same = AutoGuidance(weak={"name": "toy", **BED}, guidance_scale=7.0)
    one = AutoGuidance(weak={"name": "toy", **BED}, guidance_scale=1.0)
    guided, plain = (values(run_bed(mixture, g, count=30)) for g in (same, one))
    torch.testing.assert_close(guided, plain, atol=1e-5, rtol=0)


def test_it_undoes_a_blur_where_cfg_drops_what_is_rare(mixture: GaussianMixture) -> None:
    """The network is blurred (v .05), its weak version more (v .08): spread within a component
    shrinks towards the data's .02, and neither component loses its half."""
    blurred = Toy(variance=0.05, **BED).load("cpu")  # type: ignore[arg-type]
    assert isinstance(blurred, GaussianMixture)
    spread, halves = [], []
    for scale in (1.0, 1.5, 2.0):
        guidance = AutoGuidance(weak=WIDE, guidance_scale=scale)
        found = values(run_bed(blurred, guidance, label=2, count=500)).flatten(1)
        upper = found[:, 1] > 0
        spread.append(float(found[upper].var(0).mean()))
        halves.append(float(upper.double().mean()))
        assert mass(mixture, found.view(-1, 1, 1, 2), label=2) > 0.9
    assert spread == sorted(spread, reverse=True)
    assert spread[0] == pytest.approx(0.05, rel=0.25)
    assert spread[2] < 0.7 * spread[0]
    assert halves == pytest.approx([0.5] * 3, abs=0.08)


def test_the_weak_network_must_fit(mixture: GaussianMixture, tiny_unet: Backbone) -> None:
    models = Models(mixture)
    small = {"name": "toy", "means": {"left": [[0.0]], "right": [[0.0]]}, "shape": [1, 1, 1]}
    with pytest.raises(ConfigError, match=r"guidance\.weak: \(1, 1, 1\) .* samples \(1, 1, 2\)"):
        AutoGuidance(weak=small).check(models)
    other = {"name": "toy", "means": {"left": [[0.0, 0.0]]}}
    with pytest.raises(ConfigError, match="knows 'right'"):
        AutoGuidance(weak=other).check(models)
    with pytest.raises(ConfigError, match="a backbone: "):
        AutoGuidance(weak={"path": "x"})
    with pytest.raises(CheckpointError, match="no generator folder"):
        AutoGuidance(weak={"name": "pixel_unet", "path": "nowhere"}).check(models)
    with pytest.raises(ConfigError, match=r"guidance\.weak\.pth"):
        AutoGuidance(weak={"name": "pixel_unet", "pth": "x"}).check(models)
    assert AutoGuidance(weak={"name": "pixel_unet", "path": "handwriting"}).files == ()


def test_noise_levels_must_be_the_same(mixture: GaussianMixture, unet_with: object) -> None:
    folder = unet_with(beta_start=0.001, beta_end=0.01)  # type: ignore[operator]
    weak = {"name": "pixel_unet", "path": str(folder)}
    other = unet_with(beta_start=0.0001, beta_end=0.02)  # type: ignore[operator]
    from generators.backbones.pixel_unet import PixelUnet

    backbone = PixelUnet(path=str(other)).load("cpu")
    with pytest.raises(ConfigError, match="same noise levels"):
        AutoGuidance(weak=weak).check(Models(backbone))
