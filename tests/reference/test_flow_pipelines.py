"""Stable Diffusion 3 and FLUX against diffusers' image-to-image pipelines on the same folders."""

from typing import Any

import pytest
import torch

from tests.support.flow_cases import (
    SIZE,
    STEPS,
    TOKENS,
    Case,
    Make,
    flux_case,
    flux_spec,
    request_of,
    sd3_case,
    source,
    theirs,
)
from tests.support.tiny_transformers import IMAGE_SIZE, LATENT_SHAPE, save_flux, save_sd3


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return sd3_case(save_sd3(tmp_path_factory.mktemp("sd3")))


@pytest.fixture(scope="module")
def sd3_clip(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Without a T5, and with a shift that depends on the resolution."""
    folder = save_sd3(tmp_path_factory.mktemp("sd3"), t5=False, use_dynamic_shifting=True)
    return sd3_case(folder, text_encoder_3=None, tokenizer_3=None)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return flux_case(save_flux(tmp_path_factory.mktemp("flux")))


@pytest.fixture(scope="module")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """No embedded guidance, a static shift."""
    folder = tmp_path_factory.mktemp("flux")
    save_flux(folder, guidance_embeds=False, use_dynamic_shifting=False, shift=1.5)
    return flux_case(folder)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


REQUESTS = [
    (0, 1.0, "a photo of a cat"),
    (0, 7.5, "wolf at night"),
    (30, 2.0, "a red fox in deep snow"),
    (50, 7.5, "a red fox in deep snow"),
    (70, 1.0, "a photo of a cat"),
    (90, 2.0, ""),
]
ALL = ("sd3", "sd3_clip", "flux", "schnell")


@pytest.mark.parametrize("case", ALL, indirect=True)
def test_one_engine_run_equals_the_pipelines(case: Case, make_request: Make, render: Any) -> None:
    """Different levels, scales and prompts share batches, and each equals the pipeline alone."""
    requests = [request_of(make_request, *row) for row in REQUESTS]
    sources = [source(seed) for seed in range(len(requests))]
    finished = render(case.backbone, requests, sources, 5)

    for request, latents, done in zip(requests, sources, finished, strict=True):
        expected = theirs(case, request, latents)
        assert done.value.shape == LATENT_SHAPE
        torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=1e-5)
        (alone,) = render(case.backbone, [request], [latents])
        torch.testing.assert_close(done.value, alone.value, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ALL, indirect=True)
def test_prompts_and_the_negative_prompt_matter(case: Case) -> None:
    """Otherwise the equalities above would say little."""
    conds = [*case.backbone.condition(["a cat", "wolf"], ["", ""]), case.backbone.unconditional()]
    x_t, timesteps = source()[None], torch.tensor([500.0])
    cat, wolf, none = (case.backbone.forward(x_t, timesteps, cond) for cond in conds)
    assert float((cat - wolf).abs().max()) > 1e-3
    assert float((cat - none).abs().max()) > 1e-3
    assert {name: value.shape for name, value in conds[0].items()} == {
        name: value.shape for name, value in conds[2].items()
    }


@pytest.mark.parametrize("case", ALL, indirect=True)
@pytest.mark.parametrize("guidance", [0, 40, 90])
def test_levels_and_counts_are_the_pipelines(case: Case, guidance: int) -> None:
    request = {"prompt": "", "image": source()[None], "output_type": "latent", **SIZE}
    seen: list[float] = []

    def note(pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        seen.append(float(timestep))
        return state

    case.pipeline(
        **request,
        strength=(100 - guidance) / 100,
        num_inference_steps=STEPS,
        max_sequence_length=TOKENS,
        callback_on_step_end=note,
    )
    levels = case.backbone.schedule.levels(STEPS, guidance)
    assert [level.timestep for level in levels[:-1]] == seen
    assert flux_spec(case.folder).num_steps(STEPS, guidance) == len(seen)
    assert case.backbone.schedule.prediction_type == "flow"


@pytest.mark.parametrize("case", ["sd3", "flux"], indirect=True)
def test_pixels_to_latents_and_back_equal_the_pipelines(
    case: Case, make_request: Make, render: Any
) -> None:
    """The autoencoder's shift included; the pipeline's encoder is asked for its mode, too."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 2 - 1
    latents = case.backbone.encode(pixels)
    vae = case.pipeline.vae
    with torch.no_grad():
        mode = vae.encode(pixels).latent_dist.mode()
    expected = (mode - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(latents, expected, atol=1e-6, rtol=1e-6)

    request = request_of(make_request, 50, 2.0, "wolf at night")
    images = theirs(case, request, latents[0], output_type="pt")
    (done,) = render(case.backbone, [request], [latents[0]])
    made = (case.backbone.decode(done.value[None]) / 2 + 0.5)[0]
    torch.testing.assert_close(made, images, atol=1e-5, rtol=1e-5)
