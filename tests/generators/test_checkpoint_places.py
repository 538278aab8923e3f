"""Checkpoints in object stores: the same networks, checked early, copied once, refused by name."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from generators.backbones.base import Backbone
from generators.backbones.pixel_unet import SHIPPED, PixelUnet
from generators.backbones.stable_diffusion import StableDiffusion
from generators.errors import CheckpointError, ConfigError
from generators.filters.base import JudgeContext
from generators.filters.clip import Clip
from generators.filters.safety import Safety
from generators.filters.timm import TimmClassifier
from generators.latent.adapters import Adapters, Lora
from generators.latent.ip_adapter import IpAdapter
from generators.local_copies import cache_folder
from generators.places import place
from tests.support.object_store import put_folder
from tests.support.tiny_adapters import save_lora
from tests.support.tiny_conditioners import save_controlnet, save_ip_adapter

Put = Callable[[Path], str]
CONTEXT = JudgeContext(class_names=("a",), classifier=None, device="cpu")


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Copies a folder into a store; gives its URL. The cache for copies is empty."""
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "cache"))

    def to_store(folder: Path) -> str:
        url = f"memory://bucket/{secrets.token_hex(8)}/{folder.name}"
        put_folder(folder, url)
        return url

    return to_store


def copies() -> list[Path]:
    folder = cache_folder() / "copies"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def same_network(first: Backbone, second: Backbone) -> None:
    assert first.fingerprint == second.fingerprint
    pixels = torch.rand(2, *first.pixel_shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    assert torch.equal(first.encode(pixels), second.encode(pixels))


def test_a_pipeline_with_all_that_may_be_added_to_it(
    tiny_sd_folder: Path, tmp_path: Path, put: Put
) -> None:
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_sd_folder)
    control = save_controlnet(pipeline.unet, tmp_path / "control")
    images = save_ip_adapter(pipeline.unet, tmp_path / "images")
    lora = save_lora(pipeline, tmp_path / "lora", encoders=[], seed=1)

    def spec(at: Callable[[Path], str]) -> StableDiffusion:
        return StableDiffusion(
            path=at(tiny_sd_folder),
            adapters=Adapters(loras=(Lora(path=at(lora)),)),
            controlnet=at(control),
            ip_adapter=IpAdapter(path=at(images), weight_name="ip-adapter.safetensors"),
        )

    remote = spec(put)
    remote.check()
    checked = len(copies())
    assert checked == 3  # what is added is small; the pipeline itself waits for the workers
    same_network(remote.load("cpu"), spec(str).load("cpu"))
    assert len(copies()) == checked + 1


def test_an_index_in_a_store_is_enough_to_refuse_another_family(
    tiny_sdxl_folder: Path, put: Put
) -> None:
    url = put(tiny_sdxl_folder)
    with pytest.raises(CheckpointError, match="use the backbone 'stable_diffusion_xl'"):
        StableDiffusion(path=url).check()
    assert copies() == []
    place(f"{url}/model_index.json").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=f"{url}/model_index.json: a Git LFS pointer"):
        StableDiffusion(path=url).check()


def test_a_pixel_network(put: Put, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    shutil.copytree(SHIPPED / "handwriting", folder)
    remote = PixelUnet(path=put(folder))
    same_network(remote.load("cpu"), PixelUnet(path=str(folder)).load("cpu"))
    assert len(copies()) == 1


@pytest.mark.parametrize(
    ("field", "ask"),
    [
        ("generation.backbone.path", lambda url: StableDiffusion(path=url).check()),
        ("generation.backbone.path", lambda url: PixelUnet(path=url).check()),
        ("filter.path", lambda url: Clip(path=url).load(CONTEXT)),
        ("filter.path", lambda url: Safety(path=url).load(CONTEXT)),
        ("filter.classes", lambda url: TimmClassifier(classes=url).load(CONTEXT)),
        ("filter.weights", lambda url: TimmClassifier(classes=("a",), weights=url).load(CONTEXT)),
    ],
)
def test_what_is_not_there_or_not_read_is_named(
    field: str, ask: Callable[[str], Any], put: Put
) -> None:
    with pytest.raises(CheckpointError, match=f"{field}: .*in the object store"):
        ask("memory://bucket/nothing")
    for url in ("http://example.com/model", "s3://key:secret@bucket/model"):
        with pytest.raises(ConfigError, match=field) as caught:
            ask(url)
        assert "secret" not in str(caught.value)
