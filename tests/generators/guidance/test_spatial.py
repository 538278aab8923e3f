from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators.backbones.base import Backbone
from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.toy import GaussianMixture, Toy
from generators.engine import Engine
from generators.errors import ConfigError
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.guidance.spatial import Region, SpatialGuidance, mask_of
from generators.models import Models
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, Params, target_of


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    names = backbone.class_names or ()
    height, width = backbone.pixel_shape[1:]
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, width // 2 :] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    box = {"class_name": names[0], "box": [0, 0, 0.5, 1], "weight": 1.5}
    painted = {"class_name": names[2], "mask": str(folder / "mask.png")}
    return [
        {"guidance_scale": 2.0, "regions": [box]},
        {"guidance_scale": 0.0, "regions": [box, painted]},
    ]


LAWS = Laws(grid=grid_for, off=lambda *_: {"guidance_scale": 1.0})


def test_without_regions_it_is_cfg_and_a_region_of_no_weight_is_none(
    mixture: GaussianMixture,
) -> None:
    off = Region(class_name="left", box=(0, 0, 1, 1), weight=0)
    ours, same, cfg = (
        values(run_bed(mixture, guidance, count=30, steps=10))
        for guidance in (
            SpatialGuidance(guidance_scale=3),
            SpatialGuidance(guidance_scale=3, regions=(off,)),
            ClassifierFreeGuidance(guidance_scale=3),
        )
    )
    assert torch.equal(ours, cfg)
    assert torch.equal(same, cfg)


def test_each_place_shows_what_its_region_says() -> None:
    """Two independent pixels: `high` on the left one and `low` on the right one, nothing else."""
    both = [[x, y] for x in (-0.8, 0.8) for y in (-0.8, 0.8)]
    bed = Toy(
        means={"all": both, "high": [[0.8, 0.8]], "low": [[-0.8, -0.8]]},
        prior={"all": 1 - 2e-9, "high": 1e-9, "low": 1e-9},
    ).load("cpu")
    assert isinstance(bed, GaussianMixture)
    regions = (
        Region(class_name="high", box=(0, 0, 0.5, 1), weight=1),
        Region(class_name="low", box=(0.5, 0, 1, 1), weight=1),
    )
    guidance = SpatialGuidance(guidance_scale=0, regions=regions)
    found = values(run_bed(bed, guidance, label=0, count=200)).flatten(1)
    assert found.mean(0).tolist() == pytest.approx([0.8, -0.8], abs=0.06)
    assert float(found.std(0).max()) < 0.25


def test_masks_are_shares_of_places(tiny_unet: Backbone, tiny_sd_folder: Path) -> None:
    mask = mask_of(Models(tiny_unet), Region(box=(0, 0, 0.1875, 1)), "")
    assert mask.shape == (1, 8, 8)
    assert mask[0, 0].tolist() == pytest.approx([1, 0.5, 0, 0, 0, 0, 0, 0], abs=1e-5)
    latent = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    mask = mask_of(Models(latent), Region(box=(0.5, 0.5, 1, 1)), "")
    assert mask.shape[1:] == latent.sample_shape[1:]
    assert float(mask.mean()) == pytest.approx(0.25)


def test_the_fast_form_reads_all_prompts_as_one(tiny_sd_folder: Path) -> None:
    backbone = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    models = Models(backbone, ["cat", "dog"], "a {class_name}")
    region = Region(class_name="dog", box=(0, 0, 0.5, 1))
    guidance = SpatialGuidance(guidance_scale=3, regions=(region,), fast=True)
    guidance.check(models)
    target = target_of(backbone, 0, models=models)
    x_t, level = torch.randn(backbone.sample_shape), backbone.schedule.levels(4)[1]
    (ours,) = Engine(backbone, 4).run([(0, guidance.denoiser(target)(x_t, level))])
    assert ours.num_model_calls == guidance.calls_per_step == 2
    rows = [models.unconditional(), backbone.condition(["a cat, a dog"], ["cat"])[0]]
    no, yes = (
        backbone.forward(x_t[None], torch.tensor([level.timestep]), cond)[0] for cond in rows
    )
    assert ours.value is not None
    torch.testing.assert_close(ours.value.eps, no + 3 * (yes - no), atol=1e-4, rtol=1e-4)


def test_mistakes_are_found(tiny_unet: Backbone, tmp_path: Path) -> None:
    models = Models(tiny_unet)
    Image.new("L", (16, 8)).save(tmp_path / "wide.png")

    def check(region: Region, **params: object) -> None:
        SpatialGuidance(regions=(region,), **params).check(models)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"regions\.0\.mask: .*\(16x8\).* 8 wide and 8 high"):
        check(Region(class_name="cat", mask=str(tmp_path / "wide.png")))
    with pytest.raises(ConfigError, match=r"regions\.0\.box: \[0.5, 0, 0.5, 1\]"):
        check(Region(class_name="cat", box=(0.5, 0, 0.5, 1)))
    with pytest.raises(ConfigError, match="a box or a mask, one of them"):
        check(Region(class_name="cat"))
    with pytest.raises(ConfigError, match=r"class_name: 'cow'"):
        check(Region(class_name="cow", box=(0, 0, 1, 1)))
    with pytest.raises(ConfigError, match=r"guidance\.fast: True .* one class"):
        check(Region(class_name="cat", box=(0, 0, 1, 1)), fast=True)
