"""Few-step checkpoints against diffusers' own pipelines, through the real loading code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    EulerAncestralDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)

from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.consistency_schedule import ConsistencySchedule
from generators.errors import ConfigError
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from tests.support.latents import (
    assert_close,
    diffusers_latents,
    make_latents,
    replace_scheduler,
    source_latents,
)
from tests.support.tiny_pipelines import BETAS, save_sd, save_sdxl

Make = Callable[..., GenerationRequest]


@pytest.fixture(scope="session")
def lcm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent consistency model, told its guidance scale."""
    folder = save_sd(tmp_path_factory.mktemp("lcm") / "model", unet={"time_cond_proj_dim": 8})
    return replace_scheduler(folder, LCMScheduler(**BETAS, steps_offset=1))


@pytest.fixture(scope="session")
def turbo_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SD-Turbo's and SDXL-Turbo's scheduler: ancestral, trailing."""
    made = {}
    for name, save in (("sd", save_sd), ("sdxl", save_sdxl)):
        folder = save(tmp_path_factory.mktemp("turbo") / name)
        scheduler = EulerAncestralDiscreteScheduler(
            **BETAS, timestep_spacing="trailing", steps_offset=1
        )
        made[name] = replace_scheduler(folder, scheduler)
    return made


@pytest.mark.parametrize(("steps", "image_guidance"), [(1, 50), (4, 10), (4, 50), (3, 80), (5, 90)])
@pytest.mark.parametrize("embedded_guidance", [None, 3.0])
def test_lcm_equals_diffusers(
    steps: int,
    image_guidance: int,
    embedded_guidance: float | None,
    lcm_folder: Path,
    make_request: Make,
) -> None:
    request = make_request(
        prompt="a photo of a cat",
        sampler=MethodSpec(name="lcm"),
        num_inference_steps=steps,
        image_guidance=image_guidance,
    )
    spec = StableDiffusion(path=str(lcm_folder), embedded_guidance=embedded_guidance)
    (made,) = make_latents(spec.load("cpu"), [request], source_latents())

    pipeline = LatentConsistencyModelImg2ImgPipeline.from_pretrained(lcm_folder)
    scale: dict[str, Any] = {"guidance_scale": embedded_guidance or 8.5}
    assert_close(made, diffusers_latents(pipeline, request, source_latents(), scale))


def test_every_level_of_an_lcm_runs_all_steps(lcm_folder: Path, make_request: Make) -> None:
    spec = StableDiffusion(path=str(lcm_folder))
    assert [spec.num_steps(4, level) for level in (0, 30, 50, 90, 100)] == [4, 4, 4, 4, 0]
    with pytest.raises(ConfigError, match=r"num_inference_steps: 6 .*1\.\.5: at level 90"):
        spec.num_steps(6, 90)
    assert isinstance(spec.load("cpu").schedule, ConsistencySchedule)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(("steps", "image_guidance"), [(2, 50), (4, 50), (4, 25), (9, 10)])
def test_turbo_equals_diffusers(
    family: str,
    steps: int,
    image_guidance: int,
    turbo_folders: dict[str, Path],
    make_request: Make,
) -> None:
    """No guidance; the usual count of steps: 1, 2, 3 and 8."""
    request = make_request(
        prompt="wolf at night",
        sampler=MethodSpec(name="euler_ancestral"),
        num_inference_steps=steps,
        image_guidance=image_guidance,
    )
    folder = turbo_folders[family]
    cls, pipeline = {
        "sd": (StableDiffusion, StableDiffusionImg2ImgPipeline),
        "sdxl": (StableDiffusionXL, StableDiffusionXLImg2ImgPipeline),
    }[family]
    made = make_latents(cls(path=str(folder)).load("cpu"), [request], source_latents())[0]
    expected = diffusers_latents(
        pipeline.from_pretrained(folder), request, source_latents(), {"guidance_scale": 0.0}
    )
    assert_close(made, expected)
