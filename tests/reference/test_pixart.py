"""PixArt against diffusers' text-to-image pipelines and their own schedulers' loops."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.pixart import PixArt
from generators.errors import CheckpointError, ConfigError
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from tests.support.tiny_transformers import (
    IMAGE_SIZE,
    LATENT_SHAPE,
    save_pixart,
    saved_as_before,
)

STEPS, TOKENS, NEGATIVE = 10, 24, "blurry, low quality"
SOLVER = MethodSpec(name="dpm_solver_pp_2m")  # what the checkpoints' scheduler is
CLOSE = {"atol": 5e-4, "rtol": 1e-4}  # linear betas: rounding is divided by 0.006 at the start
Make = Callable[..., GenerationRequest]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder, our backbone on it and diffusers' pipeline."""

    folder: Path
    backbone: Backbone
    pipeline: Any


def case_of(folder: Path, pipeline: Any) -> Case:
    loaded = pipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    return Case(folder=folder, backbone=spec_of(folder).load("cpu"), pipeline=loaded)


def spec_of(folder: Path, **changes: Any) -> PixArt:
    fields = {
        "negative_prompt": NEGATIVE,
        "max_sequence_length": TOKENS,
        "image_size": IMAGE_SIZE,
    }
    return PixArt(path=str(folder), **{**fields, **changes})


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(save_pixart(tmp_path_factory.mktemp("pixart")), PixArtAlphaPipeline)


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Told the resolution and aspect ratio, as the 1024-pixel checkpoints are."""
    folder = save_pixart(tmp_path_factory.mktemp("pixart"), micro=True)
    return case_of(folder, PixArtAlphaPipeline)


@pytest.fixture(scope="module")
def sigma(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(save_pixart(tmp_path_factory.mktemp("pixart"), sigma=True), PixArtSigmaPipeline)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def source(seed: int = 0) -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


def noise_of(request: GenerationRequest) -> Tensor:
    generator = torch.Generator().manual_seed(request.noise_seed)
    return torch.randn((1, *LATENT_SHAPE), generator=generator)


def from_noise(case: Case, request: GenerationRequest, output_type: str = "latent") -> Tensor:
    images = case.pipeline(
        prompt=request.prompt,
        negative_prompt=NEGATIVE,
        guidance_scale=float(request.guidance.params["guidance_scale"]),
        num_inference_steps=request.num_inference_steps,
        latents=noise_of(request),
        height=IMAGE_SIZE,
        width=IMAGE_SIZE,
        use_resolution_binning=False,
        clean_caption=False,
        max_sequence_length=TOKENS,
        output_type=output_type,
    ).images
    return torch.as_tensor(images[0])


@torch.no_grad()
def from_source(case: Case, request: GenerationRequest, latents: Tensor) -> Tensor:
    """The image-to-image loop diffusers would have: its scheduler, its transformer, its prompts."""
    pipeline, first = case.pipeline, STEPS * request.image_guidance // 100
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    x_t = scheduler.add_noise(latents[None], noise_of(request), timesteps[:1])
    yes, yes_mask, no, no_mask = pipeline.encode_prompt(
        request.prompt,
        negative_prompt=NEGATIVE,
        clean_caption=False,
        max_sequence_length=TOKENS,
    )
    added = {"resolution": None, "aspect_ratio": None}
    if pipeline.transformer.use_additional_conditions:
        side = float(IMAGE_SIZE)
        added = {"resolution": torch.full((2, 2), side), "aspect_ratio": torch.ones(2, 1)}
    for timestep in timesteps:
        output = pipeline.transformer(
            torch.cat([x_t, x_t]),
            encoder_hidden_states=torch.cat([no, yes]),
            encoder_attention_mask=torch.cat([no_mask, yes_mask]),
            timestep=timestep.expand(2),
            added_cond_kwargs=added,
        ).sample.chunk(2, dim=1)[0]
        away, towards = output.chunk(2)
        scale = float(request.guidance.params["guidance_scale"])
        x_t = scheduler.step(away + scale * (towards - away), timestep, x_t).prev_sample
    return torch.as_tensor(x_t[0])


def request_of(make: Make, guidance: int, scale: float, prompt: str) -> GenerationRequest:
    return make(
        image_guidance=guidance,
        prompt=prompt,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": scale}),
        sampler=SOLVER,
        num_inference_steps=STEPS,
    )


REQUESTS = [
    (0, 1.0, "a photo of a cat"),
    (0, 7.5, "Wolf at night "),
    (20, 2.0, "a red fox in deep snow"),
    (50, 7.5, "a red fox in deep snow"),
    (90, 1.0, ""),
]
ALL = ("alpha", "micro", "sigma")


@pytest.mark.parametrize("case", ALL, indirect=True)
def test_one_engine_run_equals_the_pipelines(case: Case, make_request: Make, render: Any) -> None:
    """Different levels, scales and prompts share batches, and each equals the pipeline alone."""
    requests = [request_of(make_request, *row) for row in REQUESTS]
    sources = [source(seed) for seed in range(len(requests))]
    finished = render(case.backbone, requests, sources, 4)

    for request, latents, done in zip(requests, sources, finished, strict=True):
        if request.image_guidance == 0:
            expected = from_noise(case, request)
        else:
            expected = from_source(case, request, latents)
        torch.testing.assert_close(done.value, expected, **CLOSE)
        (alone,) = render(case.backbone, [request], [latents])
        torch.testing.assert_close(done.value, alone.value, **CLOSE)


def test_pixels_equal_the_pipelines(alpha: Case, make_request: Make, render: Any) -> None:
    request = request_of(make_request, 0, 2.0, "wolf at night")
    (done,) = render(alpha.backbone, [request], [source()])
    made = (alpha.backbone.decode(done.value[None]) / 2 + 0.5)[0]
    torch.testing.assert_close(made, from_noise(alpha, request, "pt"), atol=1e-5, rtol=1e-5)

    pixels = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    with torch.no_grad():
        mode = alpha.pipeline.vae.encode(pixels).latent_dist.mode()
    expected = mode * alpha.pipeline.vae.config.scaling_factor
    torch.testing.assert_close(alpha.backbone.encode(pixels), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", ALL, indirect=True)
def test_padding_and_prompts(case: Case) -> None:
    """Prompts matter, what stands behind their last word does not."""
    cat, wolf = case.backbone.condition(["a cat", "wolf"], ["", ""])
    x_t, timesteps = source()[None], torch.tensor([500.0])
    made = case.backbone.forward(x_t, timesteps, cat)
    assert made.shape == (1, *LATENT_SHAPE)
    assert float((made - case.backbone.forward(x_t, timesteps, wolf)).abs().max()) > 1e-3
    words = cat["words"][..., None]
    noisy = {**cat, "prompt": torch.where(words == 1, cat["prompt"], torch.tensor(9.0))}
    torch.testing.assert_close(case.backbone.forward(x_t, timesteps, noisy), made)


def test_sizes_are_told_to_networks_that_ask(micro: Case) -> None:
    other = spec_of(micro.folder, image_size=32).load("cpu")
    assert (other.sample_shape, other.pixel_shape) == ((4, 16, 16), (3, 32, 32))
    assert other.fingerprint != micro.backbone.fingerprint
    x_t, timesteps = source()[None], torch.tensor([500.0])
    (cond,) = micro.backbone.condition(["a cat"], [""])
    difference = micro.backbone.forward(x_t, timesteps, cond) - other.forward(x_t, timesteps, cond)
    assert float(difference.abs().max()) > 1e-4


def test_the_first_checkpoints_named_a_general_transformer(
    alpha: Case, tmp_path: Path, make_request: Make, render: Any
) -> None:
    old = spec_of(saved_as_before(alpha.folder, tmp_path / "old")).load("cpu")
    request = request_of(make_request, 0, 2.0, "wolf at night")
    (done,) = render(old, [request], [source()])
    torch.testing.assert_close(done.value, from_noise(alpha, request), **CLOSE)


def test_fingerprints_follow_the_scheduler_and_the_words(alpha: Case, tmp_path: Path) -> None:
    """Its config holds -Infinity, which is no JSON but what diffusers writes."""
    copy = Path(shutil.copytree(alpha.folder, tmp_path / "copy"))
    assert spec_of(copy).load("cpu").fingerprint == alpha.backbone.fingerprint
    assert spec_of(copy, negative_prompt="").load("cpu").fingerprint != alpha.backbone.fingerprint
    file = copy / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    assert config["lambda_min_clipped"] == -math.inf
    file.write_text(json.dumps({**config, "beta_end": 0.03}))
    assert spec_of(copy).load("cpu").fingerprint != alpha.backbone.fingerprint
    file.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    with pytest.raises(CheckpointError, match="'FlowMatchEulerDiscreteScheduler' is not supported"):
        spec_of(copy).check()


def test_defaults_and_mistakes(alpha: Case, sigma: Case) -> None:
    (cond,) = PixArt(path=str(alpha.folder)).load("cpu").condition(["a cat"], [""])
    assert cond["words"].shape == (1, 120)
    (cond,) = PixArt(path=str(sigma.folder)).load("cpu").condition(["a cat"], [""])
    assert cond["words"].shape == (1, 300)
    assert PixArt(path=str(sigma.folder)).load("cpu").pixel_shape == (3, 16, 16)
    with pytest.raises(ConfigError, match=r"image_size: 18 .* a multiple of 4"):
        spec_of(alpha.folder, image_size=18).check()
    with pytest.raises(CheckpointError, match="no folder 'nowhere'"):
        PixArt(path="nowhere").check()
