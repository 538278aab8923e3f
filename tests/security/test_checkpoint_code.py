"""Checkpoints of others name classes and bring modules; none of these is imported."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generators.backbones.pixel_unet import PixelUnet
from generators.backbones.stable_diffusion import StableDiffusion
from generators.errors import CheckpointError
from generators.filters.base import JudgeContext
from generators.filters.clip import Clip
from tests.support.folders import edit

MODULES = ("evil.py", "pipeline.py", "modeling_evil.py", "tokenization_evil.py")
REMOTE = {
    "AutoConfig": "modeling_evil.Evil",
    "AutoModel": "modeling_evil.Evil",
    "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"],
    "AutoProcessor": "modeling_evil.Evil",
    "AutoImageProcessor": "modeling_evil.Evil",
}
"""What `trust_remote_code` would import."""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What appears where one of the modules is imported; to questions the answer is yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    return tmp_path / "mark"


@pytest.fixture
def copied(tmp_path: Path, mark: Path) -> Callable[[Path], Path]:
    """Copies a checkpoint, with modules that leave a mark beside all of its files."""

    def copy(checkpoint: Path) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(checkpoint, folder)
        for below in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            for name in MODULES:
                (below / name).write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: ...\n")
        return folder

    return copy


def as_component(name: str, library: str, class_name: str) -> Callable[[Path], None]:
    """Has a checkpoint's index name this class for a component."""

    def change(folder: Path) -> None:
        edit(folder / "model_index.json", **{name: [library, class_name]})
        index = {"_class_name": ["evil", "Evil"], "_diffusers_version": "0.30.0"}
        (folder / name / "model_index.json").write_text(json.dumps(index))
        for file in ("config.json", "tokenizer_config.json"):
            data: dict[str, Any] = {"model_type": "evil", "tokenizer_class": "Evil"}
            path = folder / name / file
            if path.is_file():
                edit(path, auto_map=REMOTE, **(data if class_name.startswith("Auto") else {}))

    return change


def as_pipeline(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name=["evil", "Evil"])


def as_scheduler(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", _class_name="DiffusionPipeline")


CHANGES: dict[str, Callable[[Path], None]] = {
    "a module of its own": as_component("unet", "evil", "Evil"),
    "the pipeline": as_pipeline,
    "the scheduler": as_scheduler,
    "a pipeline as network": as_component("unet", "diffusers", "DiffusionPipeline"),
    "an automatic network": as_component("unet", "diffusers", "AutoModel"),
    "a modular pipeline": as_component("unet", "diffusers", "ModularPipeline"),
    "a function": as_component("text_encoder", "transformers", "pipeline"),
    "a module of a library": as_component("text_encoder", "transformers", "utils"),
    "an automatic model": as_component("text_encoder", "transformers", "AutoModel"),
    "an automatic tokenizer": as_component("tokenizer", "transformers", "AutoTokenizer"),
    "an automatic processor": as_component("tokenizer", "transformers", "AutoProcessor"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_classes_that_a_checkpoint_names_are_refused_and_not_run(
    name: str, tiny_sd_folder: Path, copied: Callable[[Path], Path], mark: Path
) -> None:
    folder = copied(tiny_sd_folder)
    StableDiffusion(path=str(folder)).load("cpu")
    CHANGES[name](folder)
    with pytest.raises(CheckpointError):
        StableDiffusion(path=str(folder)).load("cpu")
    assert not mark.exists()


def test_modules_beside_what_is_loaded_are_not_imported(
    tiny_clip_folder: Path, tiny_unet_folder: Path, copied: Callable[[Path], Path], mark: Path
) -> None:
    folder = copied(tiny_clip_folder)
    for file in folder.glob("*config.json"):
        edit(file, auto_map=REMOTE)
    Clip(path=str(folder)).load(JudgeContext(class_names=("a",), classifier=None, device="cpu"))
    shutil.rmtree(folder)
    folder = copied(tiny_unet_folder)
    edit(folder / "config.json", auto_map=REMOTE)
    PixelUnet(path=str(folder)).load("cpu")
    assert not mark.exists()
