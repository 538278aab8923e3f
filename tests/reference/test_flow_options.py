"""Options of Stable Diffusion 3 and FLUX, against diffusers' pipelines; and mistakes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, StableDiffusion3Img2ImgPipeline
from safetensors.torch import save_file

from generators.backbones.stable_diffusion_3 import StableDiffusion3
from generators.errors import CheckpointError, ConfigError
from generators.latent.adapters import Adapters, Lora, TextualInversion
from generators.records import ImageInputs
from generators.registry import MethodSpec, build
from tests.support.flow_cases import (
    NEGATIVE,
    STEPS,
    TOKENS,
    Case,
    Make,
    flux_case,
    flux_spec,
    request_of,
    sd3_case,
    sd3_spec,
    silent,
    source,
    theirs,
)
from tests.support.tiny_transformers import IMAGE_SIZE, save_flux, save_sd3


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return sd3_case(save_sd3(tmp_path_factory.mktemp("sd3")))


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
    torch.testing.assert_close(done.value, exact.value, atol=0.1, rtol=0.05)
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
