import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPImageProcessor

from generators.errors import CheckpointError
from generators.filters.base import JudgeContext
from generators.filters.safety import Safety

CONTEXT = JudgeContext(class_names=("cat",), classifier=None, device="cpu")
COUNT = 80  # more than one chunk


def pictures(count: int = COUNT, channels: int = 3) -> Tensor:
    """Coloured ramps: a random network tells them apart better than noise."""
    generator = torch.Generator().manual_seed(5)
    corners = torch.rand(count, channels, 2, 2, generator=generator) * 255
    images = torch.nn.functional.interpolate(corners, (20, 28), mode="bilinear")
    return images.to(torch.uint8)


def scores_of(folder: Path, pixels: Tensor) -> Tensor:
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    scores = Safety(path=str(folder)).load(CONTEXT).score(pixels, pixels, labels)
    return scores["safety_concept_score"]


def verdict_of_diffusers(folder: Path, pixels: Tensor) -> list[bool]:
    """The checker as the pipelines call it, on PIL images."""
    checker = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").eval()
    processor = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    inputs = processor(images, return_tensors="pt").pixel_values
    _, verdict = checker(clip_input=inputs, images=pixels.clone())
    return [bool(unsafe) for unsafe in verdict]


def with_thresholds(folder: Path, to: Path, concepts: Tensor, special: Tensor) -> Path:
    shutil.copytree(folder, to)
    file = to / "safety_checker" / "model.safetensors"
    weights = load_file(file)
    weights |= {"concept_embeds_weights": concepts, "special_care_embeds_weights": special}
    save_file(weights, file, metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("special", [-1.0, 0.2, 2.0])
def test_refuses_exactly_what_the_checker_refuses(
    seed: int, special: float, tiny_safety_folder: Path, tmp_path: Path
) -> None:
    """Random thresholds; special care that always, sometimes and never raises the others."""
    pixels = pictures()
    generator = torch.Generator().manual_seed(seed)
    spread = 0.3 * torch.rand(17, generator=generator)
    far = with_thresholds(tiny_safety_folder, tmp_path / "far", spread, torch.full((3,), special))
    middle = float(scores_of(far, pixels).median())
    folder = with_thresholds(
        tiny_safety_folder, tmp_path / "safety", spread + middle, torch.full((3,), special)
    )

    judge, scores = Safety(path=str(folder)), scores_of(folder, pixels)
    refused = [judge.refuse({"safety_concept_score": float(score)}) for score in scores]

    assert [reason != "" for reason in refused] == verdict_of_diffusers(folder, pixels)
    assert set(refused) == {"", "unsafe_content"}


def test_the_score_is_the_margin_by_which_the_thresholds_would_have_to_move(
    tiny_safety_folder: Path, tmp_path: Path
) -> None:
    """Thresholds higher by a score's amount make just that image safe, in thousandths."""
    pixels = pictures(12)
    zero, never = torch.zeros(17), torch.full((3,), 2.0)
    folder = with_thresholds(tiny_safety_folder, tmp_path / "zero", zero, never)
    scores = scores_of(folder, pixels)
    for index in (0, 5):
        margin = float(scores[index])
        for shift, unsafe in ((0.002, False), (-0.002, True)):
            moved = with_thresholds(
                folder, tmp_path / f"{index}{unsafe}", zero + margin + shift, never
            )
            assert verdict_of_diffusers(moved, pixels)[index] is unsafe


def test_special_care_adds_a_hundredth_to_all_concepts(
    tiny_safety_folder: Path, tmp_path: Path
) -> None:
    pixels, zero = pictures(6), torch.zeros(17)
    never = with_thresholds(tiny_safety_folder, tmp_path / "a", zero, torch.full((3,), 2.0))
    always = with_thresholds(tiny_safety_folder, tmp_path / "b", zero, torch.full((3,), -2.0))

    raised = scores_of(always, pixels) - scores_of(never, pixels)
    torch.testing.assert_close(raised, torch.full((6,), 0.01), atol=1.1e-3, rtol=0)


def test_images_are_never_painted_black_and_grey_ones_are_judged_as_grey(
    tiny_safety_folder: Path,
) -> None:
    grey = pictures(4, channels=1)
    before = grey.clone()
    scores = scores_of(tiny_safety_folder, grey)

    assert torch.equal(grey, before)
    assert bool((scores > 0).any())
    torch.testing.assert_close(scores, scores_of(tiny_safety_folder, grey.expand(-1, 3, -1, -1)))


def test_a_threshold_can_be_stricter_or_softer_than_the_checker() -> None:
    row = {"safety_concept_score": -0.02}
    assert Safety(path="x").refuse(row) == ""
    assert Safety(path="x", max_score=-0.03).refuse(row) == "unsafe_content"
    assert Safety(path="x", max_score=0.1).refuse({"safety_concept_score": 0.05}) == ""


def test_the_checker_alone_is_read_too(tiny_safety_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checker"
    shutil.copytree(tiny_safety_folder / "safety_checker", folder)
    shutil.copytree(tiny_safety_folder / "feature_extractor", folder, dirs_exist_ok=True)

    pixels = pictures(3)
    torch.testing.assert_close(
        scores_of(folder, pixels), scores_of(tiny_safety_folder, pixels), atol=0, rtol=0
    )


def test_missing_parts_are_checkpoint_errors(tiny_safety_folder: Path, tmp_path: Path) -> None:
    def load(folder: Path) -> Any:
        return Safety(path=str(folder)).load(CONTEXT)

    with pytest.raises(CheckpointError, match="nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no file .*config\.json"):
        load(tmp_path / "empty")
    folder = Path(shutil.copytree(tiny_safety_folder, tmp_path / "safety"))
    file = folder / "safety_checker" / "model.safetensors"
    weights = load_file(file)
    del weights["concept_embeds"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights .*concept_embeds"):
        load(folder)
    shutil.rmtree(folder / "feature_extractor")
    with pytest.raises(CheckpointError, match=r"feature_extractor.preprocessor_config\.json"):
        load(folder)
    shutil.rmtree(folder / "safety_checker")
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"safety_checker.config\.json"):
        load(folder)
