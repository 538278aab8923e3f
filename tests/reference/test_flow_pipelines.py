"""Stable Diffusion 3 and FLUX against diffusers' image-to-image pipelines on the same folders."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, StableDiffusion3Img2ImgPipeline
from safetensors.torch import save_file
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.flux import Flux
from generators.backbones.stable_diffusion_3 import StableDiffusion3
from generators.errors import CheckpointError, ConfigError
from generators.latent.adapters import Adapters, Lora, TextualInversion
from generators.records import GenerationRequest, ImageInputs
from generators.registry import MethodSpec, build
from tests.support.tiny_transformers import IMAGE_SIZE, LATENT_SHAPE, save_flux, save_sd3

STEPS, TOKENS, NEGATIVE = 10, 24, "blurry, low quality"
SIZE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
Make = Callable[..., GenerationRequest]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder, our backbone on it and diffusers' pipeline."""

    folder: Path
    backbone: Backbone
    pipeline: Any


def silent(pipeline: Any, folder: Path, **parts: None) -> Any:
    loaded = pipeline.from_pretrained(folder, **parts)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def sd3_spec(folder: Path, **changes: Any) -> StableDiffusion3:
    fields = {"negative_prompt": NEGATIVE, "max_sequence_length": TOKENS}
    return StableDiffusion3(path=str(folder), **{**fields, **changes})


def sd3_case(folder: Path, **parts: None) -> Case:
    pipeline = silent(StableDiffusion3Img2ImgPipeline, folder, **parts)
    return Case(folder=folder, backbone=sd3_spec(folder).load("cpu"), pipeline=pipeline)


def flux_spec(folder: Path, **changes: Any) -> Flux:
    fields = {"negative_prompt": NEGATIVE, "max_sequence_length": TOKENS, "image_size": IMAGE_SIZE}
    return Flux(path=str(folder), **{**fields, **changes})


def flux_case(folder: Path, **changes: Any) -> Case:
    pipeline = silent(FluxImg2ImgPipeline, folder)
    backbone = flux_spec(folder, **changes).load("cpu")
    return Case(folder=folder, backbone=backbone, pipeline=pipeline)


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


def source(seed: int = 0) -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


def theirs(case: Case, request: GenerationRequest, latents: Tensor, **options: Any) -> Tensor:
    """The pipeline's latents, from the same source latents and the same noise."""
    scale = float(request.guidance.params.get("guidance_scale", 1))
    if isinstance(case.pipeline, FluxImg2ImgPipeline):
        guidance = {"true_cfg_scale": scale, "guidance_scale": 3.5}
    else:
        guidance = {"guidance_scale": scale}
    output = case.pipeline(
        prompt=request.prompt,
        negative_prompt=NEGATIVE,
        image=latents[None],
        strength=(100 - request.image_guidance) / 100,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.noise_seed),
        max_sequence_length=TOKENS,
        output_type="latent",
        **{**SIZE, **guidance, **options},
    ).images
    if isinstance(case.pipeline, FluxImg2ImgPipeline):
        factor = case.pipeline.vae_scale_factor
        output = case.pipeline._unpack_latents(output, IMAGE_SIZE, IMAGE_SIZE, factor)
    return torch.as_tensor(output[0])


def request_of(make: Make, guidance: int, scale: float, prompt: str, **changes: Any) -> Any:
    return make(
        image_guidance=guidance,
        prompt=prompt,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": scale}),
        **{"num_inference_steps": STEPS, **changes},
    )


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
    images = theirs_in_pixels(case, request, latents[0])
    (done,) = render(case.backbone, [request], [latents[0]])
    made = (case.backbone.decode(done.value[None]) / 2 + 0.5)[0]
    torch.testing.assert_close(made, images, atol=1e-5, rtol=1e-5)


def theirs_in_pixels(case: Case, request: GenerationRequest, latents: Tensor) -> Tensor:
    scale = float(request.guidance.params["guidance_scale"])
    flux = isinstance(case.pipeline, FluxImg2ImgPipeline)
    guidance = {"true_cfg_scale": scale, "guidance_scale": 3.5} if flux else {"guidance_scale": 2.0}
    images = case.pipeline(
        prompt=request.prompt,
        negative_prompt=NEGATIVE,
        image=latents[None],
        strength=0.5,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(request.noise_seed),
        max_sequence_length=TOKENS,
        output_type="pt",
        **{**SIZE, **guidance},
    ).images
    return torch.as_tensor(images[0])


@pytest.mark.parametrize("distilled", [1.0, 7.0])
def test_flux_takes_a_guidance_scale_as_input(
    distilled: float, flux: Case, make_request: Make, render: Any
) -> None:
    backbone = flux_spec(flux.folder, embedded_guidance=distilled).load("cpu")
    request = make_request(image_guidance=20, prompt="wolf at night", num_inference_steps=STEPS)
    (done,) = render(backbone, [request], [source()])
    (default,) = render(flux.backbone, [request], [source()])

    expected = theirs(flux, request, source(), guidance_scale=distilled)
    torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=1e-5)
    assert float((done.value - default.value).abs().max()) > 1e-3
    assert backbone.fingerprint != flux.backbone.fingerprint


def test_schnell_takes_none(schnell: Case) -> None:
    with pytest.raises(ConfigError, match=r"embedded_guidance: 3.0 .* \(guidance_embeds"):
        flux_spec(schnell.folder, embedded_guidance=3.0).check()


def test_the_t5_may_be_left_out(sd3: Case, make_request: Make, render: Any) -> None:
    """A parameter does what a checkpoint without one does."""
    backbone = sd3_spec(sd3.folder, use_t5=False).load("cpu")
    request = request_of(make_request, 30, 2.0, "wolf at night")
    (done,) = render(backbone, [request], [source()])
    parts = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = silent(StableDiffusion3Img2ImgPipeline, sd3.folder, **parts)
    without = Case(folder=sd3.folder, backbone=backbone, pipeline=pipeline)
    expected = theirs(without, request, source())
    torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=1e-5)
    assert float((theirs(sd3, request, source()) - expected).abs().max()) > 1e-3
    assert backbone.fingerprint != sd3.backbone.fingerprint


@pytest.mark.parametrize("case", ["sd3", "flux"], indirect=True)
def test_loras_change_what_the_pipeline_makes(
    case: Case, tmp_path: Path, make_request: Make, render: Any
) -> None:
    """A low-rank change of one query, against diffusers with the same file and scale."""
    generator = torch.Generator().manual_seed(4)
    name = "transformer.transformer_blocks.0.attn.to_q"
    down, up = (torch.randn(shape, generator=generator) for shape in ((2, 16), (16, 2)))
    tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors", metadata={"format": "pt"})
    adapters = Adapters(loras=(Lora(path=str(tmp_path), scale=0.5),))
    flux = isinstance(case.pipeline, FluxImg2ImgPipeline)
    spec = flux_spec(case.folder) if flux else sd3_spec(case.folder)
    backbone = replace(spec, adapters=adapters).load("cpu")
    request = request_of(make_request, 30, 2.0, "wolf at night")
    (done,) = render(backbone, [request], [source()])

    pipeline = silent(type(case.pipeline), case.folder)
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"), adapter_name="one")
    pipeline.set_adapters("one", 0.5)
    changed = Case(folder=case.folder, backbone=backbone, pipeline=pipeline)
    expected = theirs(changed, request, source())
    torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=2e-5)
    assert float((theirs(case, request, source()) - expected).abs().max()) > 1e-3
    assert backbone.fingerprint != case.backbone.fingerprint
    words = Adapters(textual_inversions=(TextualInversion(path=str(tmp_path), token="w"),))
    with pytest.raises(ConfigError, match=r"adapters\.textual_inversions: .* only LoRAs"):
        replace(spec, adapters=words).check()


@pytest.mark.parametrize("case", ["sd3", "flux"], indirect=True)
def test_half_precision_is_near(case: Case, make_request: Make, render: Any) -> None:
    """Built from plain data, as a config is."""
    flux = isinstance(case.pipeline, FluxImg2ImgPipeline)
    params = {
        "path": str(case.folder),
        "image_size": IMAGE_SIZE,
        "negative_prompt": NEGATIVE,
        "max_sequence_length": TOKENS,
        "runtime": {"dtype": "bfloat16"},
    }
    name = "flux" if flux else "stable_diffusion_3"
    backbone = build("backbone", MethodSpec(name=name, params=params)).load("cpu")
    (cond,) = backbone.condition(["wolf at night"], [""])
    request = request_of(make_request, 50, 2.0, "wolf at night")
    (done,) = render(backbone, [request], [source()])
    (exact,) = render(case.backbone, [request], [source()])

    assert {value.dtype for value in cond.values()} == {torch.bfloat16}
    assert done.value.dtype == torch.float32
    torch.testing.assert_close(done.value, exact.value, atol=0.05, rtol=0.05)
    assert backbone.fingerprint != case.backbone.fingerprint


def test_wrong_families_sizes_and_parts_are_found_before_loading(
    sd3: Case, flux: Case, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"'StableDiffusion3Pipeline', another.*diffusion_3'"):
        flux_spec(sd3.folder).check()
    with pytest.raises(CheckpointError, match="another family; use the backbone 'flux'"):
        StableDiffusion3(path=str(flux.folder)).check()
    with pytest.raises(ConfigError, match=r"image_size: 18 .* a multiple of 4"):
        StableDiffusion3(path=str(sd3.folder), image_size=18).check()
    with pytest.raises(ConfigError, match=r"image_size: 64 .* at most 32: it has positions for 8"):
        StableDiffusion3(path=str(sd3.folder), image_size=64).check()
    broken = Path(shutil.copytree(flux.folder, tmp_path / "copy"))
    index = json.loads((broken / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "SD3Transformer2DModel"]
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="a SD3Transformer2DModel; 'flux' runs one of 'Flux"):
        flux_spec(broken).check()
    index["transformer"] = ["diffusers", "FluxTransformer2DModel"]
    (broken / "model_index.json").write_text(json.dumps(index))
    vae = broken / "vae" / "config.json"
    vae.write_text(json.dumps({**json.loads(vae.read_text()), "latent_channels": 8}))
    with pytest.raises(CheckpointError, match="in_channels 16; expected 32, what the autoencoder"):
        flux_spec(broken).check()
    shutil.rmtree(broken / "text_encoder_2")
    with pytest.raises(CheckpointError, match="text_encoder_2: folder is missing"):
        flux_spec(broken).check()


def test_a_scheduler_of_another_kind_is_refused(sd3: Case, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sd3.folder, tmp_path / "copy"))
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(CheckpointError, match="'DDIMScheduler' is not supported with a flow-match"):
        StableDiffusion3(path=str(copy)).check()


@pytest.mark.parametrize("case", ["sd3", "flux"], indirect=True)
def test_further_image_inputs_are_refused(case: Case) -> None:
    pixels = torch.zeros(3, IMAGE_SIZE, IMAGE_SIZE)
    with pytest.raises(ConfigError, match="neither a ControlNet nor an IP-Adapter"):
        case.backbone.image_condition(pixels, ImageInputs(control="source"))
