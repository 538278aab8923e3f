"""ControlNet and IP-Adapter against diffusers' pipelines, alone and packed with other requests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.latent.ip_adapter import IpAdapter
from generators.records import GenerationRequest, ImageInputs
from generators.registry import MethodSpec
from tests.support.latents import (
    assert_close,
    diffusers_latents,
    make_latents,
    replace_scheduler,
    source_latents,
    source_pixels,
)
from tests.support.tiny_conditioners import ENCODER_SIDE, save_controlnet, save_ip_adapter
from tests.support.tiny_pipelines import BETAS, STEPS, save_sd, save_sdxl

Make = Callable[..., GenerationRequest]
SETTINGS: dict[str, Any] = {"guidance_scale": 3.0}
CONTROLLED = {
    "sd": StableDiffusionControlNetImg2ImgPipeline,
    "sdxl": StableDiffusionXLControlNetImg2ImgPipeline,
}
PLAIN = {"sd": StableDiffusionImg2ImgPipeline, "sdxl": StableDiffusionXLImg2ImgPipeline}
SPECS: dict[str, Any] = {"sd": StableDiffusion, "sdxl": StableDiffusionXL}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by family, and beside each its `controlnet`, `ip` and `ip_full`."""
    made = {}
    for family, save in (("sd", save_sd), ("sdxl", save_sdxl)):
        root = tmp_path_factory.mktemp("inputs") / family
        folder = save(root / "model")
        replace_scheduler(folder, DDIMScheduler(**BETAS, **STEPS))
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        save_controlnet(unet, root / "controlnet")
        save_ip_adapter(unet, root / "ip")
        save_ip_adapter(unet, root / "ip_full", full=True)
        made[family] = folder
    return made


def load(folder: Path, family: str, *, control: bool, ip: str = "", scale: float = 1.0) -> Backbone:
    adapter = None
    if ip:
        adapter = IpAdapter(
            path=str(folder.parent / ip), weight_name="ip-adapter.safetensors", scale=scale
        )
    spec = SPECS[family](
        path=str(folder),
        controlnet=str(folder.parent / "controlnet") if control else None,
        ip_adapter=adapter,
    )
    spec.check()
    backbone: Backbone = spec.load("cpu")
    return backbone


def request_of(make_request: Make, inputs: ImageInputs, **changes: Any) -> GenerationRequest:
    return make_request(
        prompt="a photo of a cat",
        guidance=MethodSpec(name="cfg", params={"guidance_scale": 3.0}),
        image_inputs=inputs,
        **{"image_guidance": 50, "num_inference_steps": 6, **changes},
    )


def picture(pixels: Tensor) -> Image.Image:
    """The stored image."""
    return Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def canny(pixels: Tensor) -> Image.Image:
    """As diffusers' documentation makes control images."""
    edges = cv2.Canny(np.array(picture(pixels)), 100, 200)
    return Image.fromarray(np.concatenate([edges[:, :, None]] * 3, axis=2))


def controlled(folder: Path, family: str) -> Any:
    network = ControlNetModel.from_pretrained(folder.parent / "controlnet")
    return CONTROLLED[family].from_pretrained(folder, controlnet=network)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(("kind", "scale"), [("source", 1.0), ("source", 0.3), ("edges", 1.7)])
def test_controlnet_equals_diffusers(
    family: str, kind: Any, scale: float, folders: dict[str, Path], make_request: Make
) -> None:
    folder, pixels = folders[family], source_pixels()
    request = request_of(make_request, ImageInputs(control=kind, control_scale=scale))
    backbone = load(folder, family, control=True)
    (made,) = make_latents(backbone, [request], source_latents(), pixels)

    image = picture(pixels) if kind == "source" else canny(pixels)
    assert np.array(image).std() > 10
    control = {"control_image": image, "controlnet_conditioning_scale": scale}
    expected = diffusers_latents(
        controlled(folder, family), request, source_latents(), {**SETTINGS, **control}
    )
    assert_close(made, expected)
    (plain,) = make_latents(backbone, [request_of(make_request, ImageInputs())], source_latents())
    assert float((plain - made).abs().max()) > 0.01


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(("ip", "scale"), [("ip", 1.0), ("ip", 0.4), ("ip_full", 0.8)])
def test_ip_adapter_equals_diffusers(
    family: str, ip: str, scale: float, folders: dict[str, Path], make_request: Make
) -> None:
    folder, pixels = folders[family], source_pixels()
    request = request_of(make_request, ImageInputs(image_prompt=True))
    backbone = load(folder, family, control=False, ip=ip, scale=scale)
    (made,) = make_latents(backbone, [request], source_latents(), pixels)

    pipeline = PLAIN[family].from_pretrained(folder)
    pipeline.load_ip_adapter(folder.parent / ip, subfolder="", weight_name="ip-adapter.safetensors")
    pipeline.set_ip_adapter_scale(scale)
    shown = {**SETTINGS, "ip_adapter_image": picture(pixels)}
    assert_close(made, diffusers_latents(pipeline, request, source_latents(), shown))
    other = make_latents(backbone, [request], source_latents(), source_pixels(99))[0]
    assert float((other - made).abs().max()) > 0.01


@pytest.mark.parametrize("ip", ["ip", "ip_full"])
def test_rows_without_an_image_prompt_get_the_null_image(
    ip: str, folders: dict[str, Path], make_request: Make
) -> None:
    """What diffusers gives the unconditional row, here in both."""
    folder = folders["sd"]
    request = request_of(make_request, ImageInputs())
    made = make_latents(load(folder, "sd", control=False, ip=ip), [request], source_latents())[0]

    pipeline = PLAIN["sd"].from_pretrained(folder)
    pipeline.load_ip_adapter(folder.parent / ip, subfolder="", weight_name="ip-adapter.safetensors")
    shown = pipeline.prepare_ip_adapter_image_embeds(
        torch.zeros(1, 3, ENCODER_SIDE, ENCODER_SIDE), None, torch.device("cpu"), 1, True
    )
    null = [torch.cat([both.chunk(2)[0]] * 2) for both in shown]
    settings = {**SETTINGS, "ip_adapter_image_embeds": null}
    assert_close(made, diffusers_latents(pipeline, request, source_latents(), settings))


def test_both_at_once_equal_diffusers(folders: dict[str, Path], make_request: Make) -> None:
    folder, pixels = folders["sd"], source_pixels()
    inputs = ImageInputs(control="source", control_scale=0.8, image_prompt=True)
    request = request_of(make_request, inputs)
    backbone = load(folder, "sd", control=True, ip="ip", scale=0.6)
    (made,) = make_latents(backbone, [request], source_latents(), pixels)

    pipeline = controlled(folder, "sd")
    pipeline.load_ip_adapter(
        folder.parent / "ip", subfolder="", weight_name="ip-adapter.safetensors"
    )
    pipeline.set_ip_adapter_scale(0.6)
    shown = {
        **SETTINGS,
        "control_image": picture(pixels),
        "controlnet_conditioning_scale": 0.8,
        "ip_adapter_image": picture(pixels),
    }
    assert_close(made, diffusers_latents(pipeline, request, source_latents(), shown))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_packed_equals_alone(family: str, folders: dict[str, Path], make_request: Make) -> None:
    """Rows with and without each input, and with other scales, steps and levels, in one engine."""
    backbone, pixels = load(folders[family], family, control=True, ip="ip"), source_pixels()
    inputs = [
        ImageInputs(),
        ImageInputs(control="source"),
        ImageInputs(control="source", control_scale=0.2),
        ImageInputs(control="edges", image_prompt=True),
        ImageInputs(image_prompt=True),
    ]
    requests = [
        request_of(make_request, one, image_guidance=level, num_inference_steps=steps, seed=level)
        for one in inputs
        for level, steps in ((20, 5), (60, 10))
    ]
    packed = make_latents(backbone, requests, source_latents(), pixels, max_batch_size=7)
    for request, made in zip(requests, packed, strict=True):
        (alone,) = make_latents(backbone, [request], source_latents(), pixels, max_batch_size=1)
        assert_close(made, alone)


def test_scales_and_image_prompts_share_batches(
    folders: dict[str, Path], make_request: Make
) -> None:
    """Only names and shapes decide: not how strong a control is, nor whether an image is read."""
    backbone, pixels = load(folders["sd"], "sd", control=True, ip="ip"), source_pixels()

    def key(inputs: ImageInputs) -> list[tuple[str, torch.Size]]:
        cond = backbone.condition(["a cat"], ["cat"])[0]
        if inputs != ImageInputs():
            cond = {**cond, **backbone.image_condition(pixels, inputs).cond}
        return [(name, value.shape) for name, value in cond.items()]

    assert key(ImageInputs()) == key(ImageInputs(image_prompt=True))
    assert key(ImageInputs(control="source")) == key(
        ImageInputs(control="edges", control_scale=0.2, image_prompt=True)
    )
