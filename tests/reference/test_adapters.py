"""LoRA and textual inversion against diffusers' own loading of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from safetensors.torch import load_file

from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.latent.adapters import Adapters, Lora, TextualInversion
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build
from tests.support.latents import (
    assert_close,
    diffusers_latents,
    make_latents,
    replace_scheduler,
    source_latents,
)
from tests.support.tiny_adapters import save_kohya_lora, save_lora, save_words
from tests.support.tiny_pipelines import BETAS, STEPS, TEXT_WIDTH, save_sd, save_sdxl

Make = Callable[..., GenerationRequest]
SD, XL = StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
TWO_ADAPTERS = "ignore:Already found a `peft_config`:UserWarning"


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("adapters") / "sd", set_alpha_to_one=True)


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_sdxl(tmp_path_factory.mktemp("adapters") / "sdxl")
    return replace_scheduler(folder, DDIMScheduler(**BETAS, **STEPS))


@pytest.fixture(scope="session")
def loras(
    sd_folder: Path, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("loras")
    load = SD.from_pretrained
    both = ("text_encoder", "text_encoder_2")
    return {
        "one": save_lora(load(sd_folder), root / "one", encoders=["text_encoder"], seed=1),
        "two": save_lora(load(sd_folder), root / "two", encoders=[], seed=2),
        "kohya": save_kohya_lora(load(sd_folder), root / "kohya.safetensors", seed=3, alpha=1.0),
        "xl": save_lora(XL.from_pretrained(sdxl_folder), root / "xl", encoders=both, seed=4),
    }


def request_of(make_request: Make, prompt: str = "a photo of a cat") -> GenerationRequest:
    return make_request(
        prompt=prompt,
        image_guidance=50,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": 3.0}),
    )


def check(spec: Any, pipeline: Any, request: GenerationRequest, plain: Any) -> None:
    """Equal to the adapted pipeline, and far from the one without adapters."""
    source, settings = source_latents(), {"guidance_scale": 3.0}
    spec.check()
    backbone = spec.load("cpu")
    (made,) = make_latents(backbone, [request], source)
    expected = diffusers_latents(pipeline, request, source, settings)
    assert_close(made, expected)
    assert float((diffusers_latents(plain, request, source, settings) - expected).abs().max()) > 0.1


@pytest.mark.filterwarnings(TWO_ADAPTERS)
@pytest.mark.parametrize(
    "wanted", [{"one": 1.0}, {"one": 0.6, "two": -0.4}, {"kohya": 0.8, "two": 1.5}]
)
def test_loras_at_their_scales_equal_diffusers(
    wanted: dict[str, float], sd_folder: Path, loras: dict[str, Path], make_request: Make
) -> None:
    pipeline = SD.from_pretrained(sd_folder)
    for name in wanted:
        pipeline.load_lora_weights(loras[name], adapter_name=name)
    pipeline.set_adapters(list(wanted), list(wanted.values()))
    params = [{"path": str(loras[name]), "scale": scale} for name, scale in wanted.items()]
    spec = build(
        "backbone",
        MethodSpec(
            name="stable_diffusion",
            params={"path": str(sd_folder), "adapters": {"loras": params}},
        ),
    )
    check(spec, pipeline, request_of(make_request), SD.from_pretrained(sd_folder))


def test_lora_of_both_text_encoders_of_sdxl_equals_diffusers(
    sdxl_folder: Path, loras: dict[str, Path], make_request: Make
) -> None:
    pipeline = XL.from_pretrained(sdxl_folder)
    pipeline.load_lora_weights(loras["xl"], adapter_name="xl")
    pipeline.set_adapters(["xl"], [0.7])
    adapters = Adapters(loras=(Lora(path=str(loras["xl"]), scale=0.7),))
    spec = StableDiffusionXL(path=str(sdxl_folder), adapters=adapters)
    check(spec, pipeline, request_of(make_request), XL.from_pretrained(sdxl_folder))


def test_nothing_of_a_fused_lora_is_left_but_the_weights(
    sd_folder: Path, loras: dict[str, Path]
) -> None:
    """No cost at run time: the modules are those of the plain pipeline."""
    pipeline, plain = SD.from_pretrained(sd_folder), SD.from_pretrained(sd_folder)
    Adapters(loras=(Lora(path=str(loras["one"])),)).apply(pipeline)
    for part in ("unet", "text_encoder"):
        names = [name for name, _ in pipeline.components[part].named_modules()]
        assert names == [name for name, _ in plain.components[part].named_modules()]


def test_words_of_one_and_of_several_vectors_equal_diffusers(
    sd_folder: Path, tmp_path: Path, make_request: Make
) -> None:
    one = save_words(tmp_path / "one.safetensors", 1, **{"<Cat-Toy>": (TEXT_WIDTH,)})
    three = save_words(tmp_path / "three.safetensors", 2, emb_params=(3, TEXT_WIDTH))
    pipeline = SD.from_pretrained(sd_folder)
    pipeline.load_textual_inversion(one)
    pipeline.load_textual_inversion(three, token="moody")
    words = (TextualInversion(path=str(one)), TextualInversion(path=str(three), token="moody"))
    spec = StableDiffusion(
        path=str(sd_folder), adapters=Adapters(textual_inversions=words), negative_prompt="moody"
    )
    request = request_of(make_request, "a photo of a <Cat-Toy>, moody")
    source = source_latents()
    (made,) = make_latents(spec.load("cpu"), [request], source)
    settings = {"guidance_scale": 3.0, "negative_prompt": "moody"}
    expected = diffusers_latents(pipeline, request, source, settings)
    plain = diffusers_latents(SD.from_pretrained(sd_folder), request, source, settings)

    assert_close(made, expected)
    assert float((plain - expected).abs().max()) > 0.1


def test_a_word_of_both_text_encoders_of_sdxl_equals_diffusers(
    sdxl_folder: Path, tmp_path: Path, make_request: Make
) -> None:
    shape = (2, TEXT_WIDTH)
    file = save_words(tmp_path / "style.safetensors", 3, clip_l=shape, clip_g=shape)
    state, pipeline = load_file(file), XL.from_pretrained(sdxl_folder)
    for name, end in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            state[name],
            token="<style>",
            text_encoder=pipeline.components[f"text_encoder{end}"],
            tokenizer=pipeline.components[f"tokenizer{end}"],
        )
    words = (TextualInversion(path=str(file), token="<style>"),)
    spec = StableDiffusionXL(path=str(sdxl_folder), adapters=Adapters(textual_inversions=words))
    request = request_of(make_request, "a <style> cat")
    check(spec, pipeline, request, XL.from_pretrained(sdxl_folder))


def test_adapters_are_part_of_the_fingerprint(
    sd_folder: Path, loras: dict[str, Path], tmp_path: Path
) -> None:
    """By content, scale and word; not by path."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((loras["one"] / "pytorch_lora_weights.safetensors").read_bytes())
    word = str(save_words(tmp_path / "word.safetensors", 1, moody=(TEXT_WIDTH,)))
    one, two = str(loras["one"]), str(loras["two"])

    def fingerprint(**parts: Any) -> str:
        spec = StableDiffusion(path=str(sd_folder), adapters=Adapters(**parts))
        return spec.load("cpu").fingerprint

    kinds = [
        {},
        {"loras": (Lora(path=one),)},
        {"loras": (Lora(path=one, scale=0.5),)},
        {"loras": (Lora(path=one), Lora(path=two))},
        {"textual_inversions": (TextualInversion(path=word),)},
        {"textual_inversions": (TextualInversion(path=word, token="other"),)},
    ]
    found = [fingerprint(**parts) for parts in kinds]
    assert len(set(found)) == len(found)
    assert fingerprint(loras=(Lora(path=str(copy)),)) == found[1]
