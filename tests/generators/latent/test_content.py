"""Fingerprints follow what decides pixels, wherever the files are."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from generators.backbones.stable_diffusion import FAMILY, StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.errors import CheckpointError
from generators.latent import content
from generators.latent.checkpoint import check_checkpoint
from generators.latent.content import file_hash
from generators.latent.runtime import Runtime
from tests.support.folders import UNET, edit, refused

Copy = Callable[[], Path]


def told(folder: Path | str, **parameters: Any) -> str:
    return StableDiffusion(path=str(folder), **parameters).load("cpu").fingerprint


def test_fingerprints_change_with_what_decides_pixels(copy: Copy) -> None:
    base, folder = told(copy()), copy()
    assert len(base) == 32
    edit(folder / "unet" / "config.json", _diffusers_version="0.41.0", _name_or_path="elsewhere")
    (folder / "scheduler" / "README.md").write_text("notes")
    (folder / "unet" / "unused.fp16.safetensors").write_bytes(b"")
    runtime = Runtime(channels_last=False, attention="sliced", vae_slicing=True, vae_tiling=True)
    assert {told(folder), told(folder, runtime=runtime), told(folder, image_size=32)} == {base}
    assert told(folder, negative_prompt="") == base

    changed = [
        told(folder, image_size=48),
        told(folder, negative_prompt="ugly"),
        told(folder, clip_skip=1),
        told(folder, runtime=Runtime(dtype="bfloat16")),
    ]
    for name, tensor in (
        (UNET, "conv_in.bias"),
        ("vae/diffusion_pytorch_model.safetensors", "quant_conv.bias"),
        ("text_encoder/model.safetensors", "final_layer_norm.bias"),
    ):
        other = copy()
        tensors = load_file(other / name)
        found = next(n for n in sorted(tensors) if n.endswith(tensor))
        tensors[found][0] += 1
        save_file(tensors, other / name, {"format": "pt"})
        changed.append(told(other))
    other = copy()
    edit(other / "scheduler" / "scheduler_config.json", beta_end=0.02)
    changed.append(told(other))
    edit(other / "tokenizer" / "tokenizer_config.json", note="another tokenizer")
    changed.append(told(other))
    assert len({base, *changed}) == len(changed) + 1


def test_files_are_hashed_once_and_blobs_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    known = file_hash(file)
    assert known == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    blob = tmp_path / "blobs" / known
    blob.parent.mkdir()
    blob.write_bytes(b"not read")
    (tmp_path / "link").symlink_to(blob)
    file.with_name("other").write_bytes(b"abcd")
    reads = []
    digest = content.hashlib.file_digest

    def counted(*args: Any) -> Any:
        reads.append(args)
        return digest(*args)

    monkeypatch.setattr(content.hashlib, "file_digest", counted)
    assert [file_hash(file), file_hash(tmp_path / "link")] == [known, known]
    assert reads == []
    file.write_bytes(b"abcde")
    assert file_hash(file) != known
    assert len(reads) == 1


def test_schedulers_with_infinities_in_their_config_have_fingerprints(copy: Copy) -> None:
    """DPM-Solver's `lambda_min_clipped` is -Infinity, for which JSON has no word."""
    from diffusers import DPMSolverMultistepScheduler

    folder = copy()
    DPMSolverMultistepScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    first = StableDiffusion(path=str(folder)).load("cpu").fingerprint
    edit(folder / "scheduler" / "scheduler_config.json", lambda_min_clipped=-5.1)
    assert StableDiffusion(path=str(folder)).load("cpu").fingerprint != first


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache in an empty folder, and no network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def downloaded(source: Path, hub: Path) -> Path:
    """Lays a folder out as the hub's cache does: blobs, and links to them; the snapshot."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--org--tiny"
    snapshot, blobs = repository / "snapshots" / revision, repository / "blobs"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    blobs.mkdir()
    for file in (path for path in source.rglob("*") if path.is_file()):
        large = file.suffix == ".safetensors"
        digest = (hashlib.sha256 if large else hashlib.sha1)(file.read_bytes()).hexdigest()
        (blobs / digest).write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / digest, link.parent))
    return snapshot


def test_a_model_in_the_hubs_cache_is_that_of_a_folder(hub: Path, tiny_sd_folder: Path) -> None:
    snapshot = downloaded(tiny_sd_folder, hub)
    StableDiffusion(path="org/tiny").check()
    assert told("org/tiny") == told(tiny_sd_folder)
    with pytest.raises(CheckpointError, match="use the backbone 'stable_diffusion'"):
        StableDiffusionXL(path="org/tiny").check()

    (snapshot / UNET).unlink()
    part = hub / "models--org--tiny" / "blobs" / "abc.incomplete"
    part.write_bytes(b"")
    with pytest.raises(CheckpointError, match="missing") as caught:
        StableDiffusion(path="org/tiny").load("cpu")
    assert f"{part} is an unfinished download" in str(caught.value)


def test_a_folder_wins_over_a_hub_name(
    hub: Path, tiny_sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "tiny").symlink_to(tiny_sd_folder)
    monkeypatch.chdir(tmp_path)
    found = check_checkpoint(FAMILY, "org/tiny")
    assert found is not None
    assert found.folder == Path("org/tiny")


def test_a_hub_name_without_a_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("nobody/nothing", "'nobody/nothing'", "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert check_checkpoint(FAMILY, "nobody/nothing") is None  # online, it may be there
