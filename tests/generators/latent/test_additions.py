"""ControlNets and IP-Adapters that do not fit, and inputs a backbone does not have."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.errors import CheckpointError, ConfigError
from generators.latent.controlnet import edges, find_controlnet
from generators.latent.ip_adapter import IpAdapter
from generators.latent.runtime import Runtime
from generators.records import ImageInputs
from generators.registry import MethodSpec, build
from tests.support.latents import source_latents, source_pixels
from tests.support.tiny_conditioners import save_controlnet, save_ip_adapter
from tests.support.tiny_pipelines import save_sd, save_sdxl

NAME = "ip-adapter.safetensors"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sd`, `sdxl`, and what belongs to the first: `controlnet`, `ip`."""
    root = tmp_path_factory.mktemp("additions")
    save_sdxl(root / "sdxl")
    unet = UNet2DConditionModel.from_pretrained(save_sd(root / "sd") / "unet")
    save_controlnet(unet, root / "controlnet")
    save_ip_adapter(unet, root / "ip")
    return root


def with_ip(folder: Path, **changes: Any) -> StableDiffusion:
    adapter = IpAdapter(path=str(folder / "ip"), weight_name=NAME)
    return StableDiffusion(path=str(folder / "sd"), ip_adapter=replace(adapter, **changes))


def changed(folder: Path, to: Path, **config: Any) -> Path:
    """A copy with other entries in its config."""
    shutil.copytree(folder, to)
    file = to / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return to


def test_controlnets_of_other_families_are_found_without_loading(
    root: Path, tmp_path: Path
) -> None:
    control = root / "controlnet"
    cases = [
        (tmp_path / "nowhere", "controlnet: no folder"),
        (root / "sd", r"config\.json: missing"),
        (root / "sd" / "unet", "_class_name is 'UNet2DConditionModel'"),
        (changed(control, tmp_path / "a", cross_attention_dim=20), r"is 20, but 16 .*family"),
        (changed(control, tmp_path / "b", conditioning_channels=4), "must be 3"),
    ]
    for path, message in cases:
        with pytest.raises(CheckpointError, match=message):
            StableDiffusion(path=str(root / "sd"), controlnet=str(path)).check()
    with pytest.raises(CheckpointError, match="controlnet: no folder"):
        find_controlnet(str(tmp_path / "nowhere"), None, None)
    assert find_controlnet(str(control), "fp16", None).variant is None
    with pytest.raises(CheckpointError, match="cross_attention_dim is 16, but 32"):
        StableDiffusionXL(path=str(root / "sdxl"), controlnet=str(control)).check()
    (tmp_path / "a" / "diffusion_pytorch_model.safetensors").unlink()
    changed(tmp_path / "a", tmp_path / "c", cross_attention_dim=16)
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.safetensors: missing"):
        StableDiffusion(path=str(root / "sd"), controlnet=str(tmp_path / "c")).check()


def test_weights_of_a_controlnet_must_all_be_there(root: Path, tmp_path: Path) -> None:
    folder = changed(root / "controlnet", tmp_path / "part")
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["controlnet_mid_block.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing keys: controlnet_mid_block\.weight"):
        StableDiffusion(path=str(root / "sd"), controlnet=str(folder)).load("cpu")


def test_files_of_an_ip_adapter_are_checked_without_loading(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root / "ip", tmp_path / "ip"))
    (copy / "x.bin").write_bytes(b"\x80\x02")
    save_file({"image_proj.x": torch.zeros(1)}, copy / "half.safetensors")
    with_ip(root).check()
    with_ip(root, path=str(root), subfolder="ip").check()
    with_ip(
        root, path=str(root), weight_name=f"ip/{NAME}", image_encoder="ip/image_encoder"
    ).check()
    for changes, message in (
        ({"weight_name": "no.safetensors"}, "no file"),
        ({"weight_name": "x.bin"}, "can run code"),
        ({"weight_name": "half.safetensors"}, r"holds \['image_proj'\]"),
        ({"image_encoder": "encoder"}, "no image encoder .*set image_encoder"),
    ):
        with pytest.raises(CheckpointError, match=message):
            with_ip(root, **{"path": str(copy), **changes}).check()
    sliced = replace(with_ip(root), runtime=Runtime(attention="sliced"))
    with pytest.raises(ConfigError, match=r"runtime\.attention"):
        sliced.check()


def test_an_ip_adapter_of_another_network_is_refused(root: Path) -> None:
    adapter = IpAdapter(path=str(root / "ip"), weight_name=NAME)
    spec = StableDiffusionXL(path=str(root / "sdxl"), ip_adapter=adapter)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        spec.load("cpu")


def test_inputs_a_backbone_does_not_have_are_refused(root: Path) -> None:
    backbone = StableDiffusion(path=str(root / "sd")).load("cpu")
    gray = torch.zeros(backbone.pixel_shape)
    with pytest.raises(ConfigError, match=r"image_inputs\.control: 'source' .*no `controlnet`"):
        backbone.image_condition(gray, ImageInputs(control="source"))
    with pytest.raises(ConfigError, match=r"image_inputs\.image_prompt: True .*no `ip_adapter`"):
        backbone.image_condition(gray, ImageInputs(image_prompt=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_all_of_it_runs_in_half_precision(root: Path, dtype: Any) -> None:
    """Every entry in the network's data type, and the same prediction but for rounding."""
    spec = replace(with_ip(root), controlnet=str(root / "controlnet"))
    made = []
    for kind in ("float32", dtype):
        backbone = replace(spec, runtime=Runtime(dtype=kind)).load("cpu")
        image = backbone.image_condition(
            source_pixels(), ImageInputs(control="source", image_prompt=True)
        )
        cond = {**backbone.condition(["a cat"], ["cat"])[0], **image.cond}
        assert {value.dtype for value in cond.values()} == {getattr(torch, kind)}
        with torch.inference_mode():
            output = backbone.forward(source_latents()[None], torch.tensor([500.0]), cond)
        made.append(output.float())
    torch.testing.assert_close(made[1], made[0], atol=0.05, rtol=0.05)
    assert not torch.equal(made[1], made[0])


def test_edges_without_opencv_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.zeros(3, 8, 8)
    assert not edges(pixels).any()
    pixels[:, :, 4:] = 1
    assert set(edges(pixels).unique().tolist()) == {0.0, 1.0}
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr("generators.latent.controlnet.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"diffusion-curriculum\[control\]"):
        edges(pixels)


def test_what_is_added_is_part_of_the_fingerprint(root: Path, tmp_path: Path) -> None:
    """By content and scale; not by path."""
    plain = StableDiffusion(path=str(root / "sd"))
    control, ip = str(root / "controlnet"), with_ip(root)
    moved = str(shutil.copytree(control, tmp_path / "moved"))
    unet = UNet2DConditionModel.from_pretrained(root / "sd" / "unet")
    other = str(save_controlnet(unet, tmp_path / "other", seed=9))
    specs = [
        plain,
        replace(plain, controlnet=control),
        replace(plain, controlnet=other),
        ip,
        with_ip(root, scale=0.5),
        replace(ip, controlnet=control),
    ]
    found = [spec.load("cpu").fingerprint for spec in specs]
    assert len(set(found)) == len(found)
    assert replace(plain, controlnet=moved).load("cpu").fingerprint == found[1]


def test_parameters_are_checked_with_the_config(root: Path) -> None:
    def of(**adapter: Any) -> Any:
        params = {"path": str(root / "sd"), "ip_adapter": adapter}
        return build("backbone", MethodSpec(name="stable_diffusion", params=params), "backbone")

    assert of(path="x", weight_name="y").ip_adapter == IpAdapter(path="x", weight_name="y")
    with pytest.raises(ConfigError, match=r"backbone\.ip_adapter\.scale"):
        of(path="x", weight_name="y", scale=3)
    with pytest.raises(ConfigError, match=r"backbone\.ip_adapter\.weight_name"):
        of(path="x")
    with pytest.raises(ConfigError, match=r"backbone\.ip_adapter\.weights"):
        of(path="x", weight_name="y", weights=1)
