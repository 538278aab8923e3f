"""Stable Diffusion through our engine against diffusers' image-to-image pipelines, in latents."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.engine import Finished
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from tests.support.tiny_pipelines import IMAGE_SIZE, LATENT_SHAPE, save_refiner, save_sd, save_sdxl

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]

STEPS = 10
STRENGTHS = (10, 30, 50, 70, 90)
NEGATIVE = "blurry, low quality"
V_ZERO_SNR = {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
}


def source(seed: int = 11) -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


class Reference:
    """diffusers' own pipeline, one image a call."""

    def __init__(self, folder: Path, scheduler: type[Any] | None = None) -> None:
        config = json.loads((folder / "model_index.json").read_text())
        if "XL" in config["_class_name"]:
            self.pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
        else:
            self.pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(
                folder, safety_checker=None, requires_safety_checker=False
            )
        if scheduler is not None:
            self.pipeline.scheduler = scheduler.from_config(
                self.pipeline.scheduler.config, clip_sample=False
            )
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(self, request: GenerationRequest, latents: Tensor, **options: Any) -> Tensor:
        images: Tensor = self.pipeline(
            prompt=request.prompt,
            image=latents[None],
            strength=(100 - request.image_guidance) / 100,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance.params.get("guidance_scale", 1.0),
            generator=torch.Generator().manual_seed(request.noise_seed),
            output_type="latent",
            **options,
        ).images
        return images[0]


@pytest.fixture
def ask(make_request: Make) -> Make:
    def make(strength: int = 50, scale: float = 7.5, **changes: Any) -> GenerationRequest:
        defaults = {
            "prompt": "a photo of a cat",
            "image_guidance": 100 - strength,
            "num_inference_steps": STEPS,
            "guidance": MethodSpec(name="cfg", params={"guidance_scale": scale}),
        }
        return make_request(**{**defaults, **changes})

    return make


def close(made: Tensor | None, expected: Tensor) -> None:
    """To 1e-5 of the latents' scale: an untrained network and strong guidance make them large."""
    assert made is not None
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(made / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def sd_folders(
    tiny_sd_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Of each prediction type; the last as SD 1.5 ships, with a PNDM scheduler."""
    v = save_sd(tmp_path_factory.mktemp("sd_v"), prediction_type="v_prediction")
    zero = save_sd(tmp_path_factory.mktemp("sd_zero"), **V_ZERO_SNR)
    pndm = tmp_path_factory.mktemp("sd_pndm") / "copy"
    shutil.copytree(tiny_sd_folder, pndm)
    file = pndm / "scheduler" / "scheduler_config.json"
    config = {**json.loads(file.read_text()), "_class_name": "PNDMScheduler"}
    del config["timestep_spacing"], config["prediction_type"]
    file.write_text(json.dumps({**config, "skip_prk_steps": True}))
    return {"epsilon": tiny_sd_folder, "v": v, "v_zero_snr": zero, "pndm": pndm}


@pytest.mark.parametrize("kind", ["epsilon", "v", "v_zero_snr", "pndm"])
def test_stable_diffusion_equals_diffusers(
    kind: str, sd_folders: Mapping[str, Path], ask: Make, render: Render
) -> None:
    backbone = StableDiffusion(path=str(sd_folders[kind]), negative_prompt=NEGATIVE).load("cpu")
    reference = Reference(sd_folders[kind], DDIMScheduler)
    scales = (1.0, 2.0, 7.5) if kind in ("epsilon", "v") else (7.5,)
    requests = [ask(strength, scale) for strength in STRENGTHS for scale in scales]

    made = render(backbone, requests, [source()] * len(requests))

    for done, request in zip(made, requests, strict=True):
        close(done.value, reference(request, source(), negative_prompt=NEGATIVE))


def test_many_requests_in_one_run_equal_diffusers_one_by_one(
    tiny_sd_folder: Path, ask: Make, render: Render
) -> None:
    backbone = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    reference = Reference(tiny_sd_folder)
    prompts = ("a photo of a cat", "a red fox in deep snow", "wolf at night")
    requests = [
        ask(
            10 * (1 + i % 9),
            (1.0, 2.0, 7.5)[i % 3],
            prompt=prompts[i % 3],
            source_key=f"s{i}",
            num_inference_steps=10 * (1 + i % 2),
        )
        for i in range(12)
    ]
    sources = [source(i) for i in range(12)]

    made = render(backbone, requests, sources, max_batch_size=5)

    for done, request, latents in zip(made, requests, sources, strict=True):
        close(done.value, reference(request, latents))


def test_clip_skip_equals_diffusers(tiny_sd_folder: Path, ask: Make, render: Render) -> None:
    """With embeddings made here: diffusers 0.42 cannot skip layers of transformers 5's CLIP."""
    backbone = StableDiffusion(path=str(tiny_sd_folder), clip_skip=1).load("cpu")

    (done,) = render(backbone, [ask()], [source()])

    reference = Reference(tiny_sd_folder)
    encoder, tokenizer = reference.pipeline.text_encoder, reference.pipeline.tokenizer
    prompts = [ask().prompt, ""]
    tokens = tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = encoder(tokens, output_hidden_states=True)
        skipped = encoder.final_layer_norm(hidden.hidden_states[-2])
    embeds = {"prompt_embeds": skipped[:1], "negative_prompt_embeds": hidden[0][1:]}
    expected = reference(replace(ask(), prompt=None), source(), **embeds)
    close(done.value, expected)
    assert not torch.allclose(expected, reference(ask(), source()))


def test_embedded_guidance_equals_diffusers(tmp_path: Path, ask: Make, render: Render) -> None:
    folder = save_sd(tmp_path, unet={"time_cond_proj_dim": 8})
    request = ask(guidance=MethodSpec(name="none"))
    backbone = StableDiffusion(path=str(folder), embedded_guidance=3.0).load("cpu")

    (done,) = render(backbone, [request], [source()])

    told = ask(scale=3.0)  # the pipeline hands its guidance scale to such a network
    close(done.value, Reference(folder)(told, source()))


@pytest.fixture(scope="module")
def xl_folders(
    tiny_sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    return {
        "base": tiny_sdxl_folder,
        "encodes_empty": save_sdxl(tmp_path_factory.mktemp("xl_empty"), force_zeros=False),
        "refiner": save_refiner(tmp_path_factory.mktemp("xl_refiner")),
    }


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("negative", [None, NEGATIVE])
@pytest.mark.parametrize("kind", ["base", "encodes_empty", "refiner"])
def test_xl_equals_diffusers(
    kind: str,
    negative: str | None,
    scheduler: type[Any],
    xl_folders: Mapping[str, Path],
    ask: Make,
    render: Render,
) -> None:
    """DDIM, and Euler in sigma space: the same steps along the probability flow."""
    backbone = StableDiffusionXL(path=str(xl_folders[kind]), negative_prompt=negative).load("cpu")
    reference = Reference(xl_folders[kind], scheduler)
    requests = [ask(20), ask(50), ask(90), ask(70, scale=1.0), ask(70, scale=2.0)]

    made = render(backbone, requests, [source()] * len(requests))

    for done, request in zip(made, requests, strict=True):
        close(done.value, reference(request, source(), negative_prompt=negative))


SIZES = {"original_size": (64, 48), "target_size": (32, 24)}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("base", {**SIZES, "crop": (4, 8)}, {**SIZES, "crops_coords_top_left": (4, 8)}),
    ("base", {"clip_skip": 1}, {"clip_skip": 1}),
    (
        "refiner",
        {"aesthetic_score": 9.0, "negative_aesthetic_score": 1.0},
        {"aesthetic_score": 9.0, "negative_aesthetic_score": 1.0},
    ),
]


@pytest.mark.parametrize(("kind", "parameters", "options"), CASES)
def test_what_xl_is_told_beside_the_prompt_equals_diffusers(
    kind: str,
    parameters: dict[str, Any],
    options: dict[str, Any],
    xl_folders: Mapping[str, Path],
    ask: Make,
    render: Render,
) -> None:
    backbone = StableDiffusionXL(path=str(xl_folders[kind]), **parameters).load("cpu")

    (done,) = render(backbone, [ask(scale=2.0)], [source()])

    reference = Reference(xl_folders[kind])
    close(done.value, reference(ask(scale=2.0), source(), **options))
    plain = reference(ask(scale=2.0), source())
    assert done.value is not None
    assert not torch.allclose(done.value, plain, atol=1e-4)


@pytest.mark.parametrize("spec", [StableDiffusion, StableDiffusionXL])
def test_encoding_and_decoding_equal_diffusers(
    spec: type[Any], tiny_sd_folder: Path, tiny_sdxl_folder: Path
) -> None:
    folder = tiny_sd_folder if spec is StableDiffusion else tiny_sdxl_folder
    backbone: Backbone = spec(path=str(folder)).load("cpu")
    pipeline = Reference(folder).pipeline
    pixels = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1

    latents = backbone.encode(pixels)

    assert latents.shape == (2, *LATENT_SHAPE)
    with torch.no_grad():
        mode = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
        image = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    torch.testing.assert_close(latents, mode, atol=1e-5, rtol=0)
    expected = pipeline.image_processor.postprocess(image, output_type="pt")
    torch.testing.assert_close((backbone.decode(latents) + 1) / 2, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", [StableDiffusion, StableDiffusionXL])
def test_a_prompt_that_occurs_often_is_read_once(
    spec: type[Any], tiny_sd_folder: Path, tiny_sdxl_folder: Path
) -> None:
    folder = tiny_sd_folder if spec is StableDiffusion else tiny_sdxl_folder
    backbone: Backbone = spec(path=str(folder)).load("cpu")
    prompts = ["a photo of a cat", "wolf at night", "a photo of a cat"]

    conds = backbone.condition(prompts, ["x"] * 3)

    assert conds[0]["prompt"].shape == (1, 77, 16 if spec is StableDiffusion else 32)
    assert conds[0]["prompt"] is conds[2]["prompt"]
    assert conds[0].keys() == backbone.unconditional().keys()
    alone = [backbone.condition([prompt], ["x"])[0] for prompt in prompts]
    for packed, single in zip(conds, alone, strict=True):
        for name, value in packed.items():
            torch.testing.assert_close(value, single[name], atol=1e-6, rtol=0)
