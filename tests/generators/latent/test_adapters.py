"""What is wrong with an adapter is said before any work, or at the latest when it is applied."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from safetensors.torch import load_file, save_file

from generators.errors import CheckpointError, ConfigError
from generators.latent.adapters import Adapters, Lora, TextualInversion
from generators.registry import MethodSpec, build
from tests.support.tiny_adapters import WEIGHTS, save_lora, save_words
from tests.support.tiny_pipelines import TEXT_WIDTH, save_sd, save_sdxl

SD, XL = StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
Load = Callable[[], Any]


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = save_sd(tmp_path_factory.mktemp("adapters") / "sd")
    return lambda: SD.from_pretrained(folder)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = save_sdxl(tmp_path_factory.mktemp("adapters") / "sdxl")
    return lambda: XL.from_pretrained(folder)


def lora(path: Path) -> Adapters:
    return Adapters(loras=(Lora(path=str(path)),))


def words(*paths: Path, token: str = "") -> Adapters:
    inversions = tuple(TextualInversion(path=str(path), token=token) for path in paths)
    return Adapters(textual_inversions=inversions)


def test_files_that_are_missing_pickled_or_damaged_are_found_without_loading(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x02")
    whole = save_words(tmp_path / "whole.safetensors", 0, word=(4,))
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-3])
    for name, message in (
        ("nowhere.safetensors", r"loras\.0\.path: no file or folder"),
        ("empty", r"holds no \*\.safetensors"),
        ("pickle.bin", "can run code"),
        ("cut.safetensors", "truncated"),
        ("whole.safetensors", "holds no LoRA"),
    ):
        with pytest.raises(CheckpointError, match=message):
            lora(tmp_path / name).check()
    with pytest.raises(CheckpointError, match=r"textual_inversions\.0: no file"):
        words(tmp_path / "nowhere").check()


def test_a_folder_with_one_file_or_the_usual_name_will_do(tmp_path: Path) -> None:
    tensors = {"unet.x.lora_A.weight": torch.zeros(2, 2)}
    save_file(tensors, tmp_path / "mine.safetensors")
    assert lora(tmp_path).files() == (tmp_path / "mine.safetensors",)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"mine\.safetensors.*other\.safetensors.*give the"):
        lora(tmp_path).check()
    save_file(tensors, tmp_path / WEIGHTS)
    assert lora(tmp_path).files() == (tmp_path / WEIGHTS,)


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")
def test_a_lora_of_another_network_is_refused(sd: Load, sdxl: Load, tmp_path: Path) -> None:
    file = save_lora(sd(), tmp_path / "sd", encoders=["text_encoder"], seed=1) / WEIGHTS
    with pytest.raises(CheckpointError, match=r"does not fit this network: .*size mismatch"):
        lora(file).apply(sdxl())

    state = load_file(file)
    renamed = {f"transformer.{name.partition('.')[2]}": value for name, value in state.items()}
    save_file(renamed, tmp_path / "dit.safetensors")
    with pytest.raises(CheckpointError, match=rf"{len(state)} of {len(state)} tensors .*no place"):
        lora(tmp_path / "dit.safetensors").apply(sd())

    extra = {f"unet.nowhere.to_q.lora_{end}.weight": torch.zeros(2, 2) for end in "AB"}
    save_file({**state, **extra}, tmp_path / "more.safetensors")
    with pytest.raises(CheckpointError, match=rf"2 of {len(state) + 2} tensors .*no place"):
        lora(tmp_path / "more.safetensors").apply(sd())


def test_words_that_are_nameless_or_known_are_refused(sd: Load, tmp_path: Path) -> None:
    one = save_words(tmp_path / "one.safetensors", 1, moody=(TEXT_WIDTH,))
    nameless = save_words(tmp_path / "a1111.safetensors", 1, emb_params=(2, TEXT_WIDTH))
    with pytest.raises(ConfigError, match=r"textual_inversions\.0\.token: '' .*does not name it"):
        words(nameless).check()
    words(nameless, token="fine").check()
    with pytest.raises(ConfigError, match=r"textual_inversions\.1\.token: 'moody'.*not know"):
        words(one, one).apply(sd())
    with pytest.raises(ConfigError, match=r"<\|endoftext\|>"):
        words(one, token="<|endoftext|>").apply(sd())


def test_words_for_other_text_encoders_are_refused(sd: Load, sdxl: Load, tmp_path: Path) -> None:
    one = save_words(tmp_path / "one.safetensors", 1, moody=(TEXT_WIDTH,))
    wide = save_words(tmp_path / "wide.safetensors", 1, moody=(TEXT_WIDTH + 8,))
    both = save_words(tmp_path / "both.safetensors", 1, clip_l=(16,), clip_g=(16,))
    with pytest.raises(CheckpointError, match=r"24 values, but the text_encoder .* reads 16"):
        words(wide).apply(sd())
    with pytest.raises(CheckpointError, match=r"\['clip_g', 'clip_l'\], but .* \['clip_l'\]"):
        words(both, token="x").apply(sd())
    with pytest.raises(CheckpointError, match=r"\['moody'\], but .*\['clip_g', 'clip_l'\]"):
        words(one).apply(sdxl())


def test_adapters_are_checked_with_the_config_and_the_backbone(tmp_path: Path) -> None:
    def of(**adapters: Any) -> Any:
        params = {"path": str(tmp_path), "adapters": adapters}
        return build("backbone", MethodSpec(name="stable_diffusion", params=params), "backbone")

    with pytest.raises(ConfigError, match=r"backbone\.adapters.*strength"):
        of(loras=[{"path": "x", "strength": 1}])
    with pytest.raises(ConfigError, match=r"backbone\.adapters\.loras\.0\.scale"):
        of(loras=[{"path": "x", "scale": 11}])
    with pytest.raises(ConfigError, match=r"backbone\.adapters\.lora\b"):
        of(lora=[])
    folder = save_sd(tmp_path / "model")
    params = {"path": str(folder), "adapters": {"loras": [{"path": str(tmp_path / "no")}]}}
    spec = build("backbone", MethodSpec(name="stable_diffusion", params=params))
    with pytest.raises(CheckpointError, match=r"loras\.0\.path: no file"):
        spec.check()
