import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPProcessor

from generators.errors import CheckpointError, ConfigError
from generators.filters.base import JudgeContext
from generators.filters.clip import Clip
from generators.registry import MethodSpec, build

CONTEXT = JudgeContext(class_names=("cat", "red_fox", "wolf"), classifier=None, device="cpu")


def images(count: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, 20, 28)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_scores_are_the_cosines_of_clip_itself(tiny_clip_folder: Path) -> None:
    """The whole model at once, on PIL images and texts: `logits_per_image` without its factor."""
    pixels, labels = images(5), torch.tensor([2, 0, 1, 1, 0])
    texts = ["a photo of a cat", "a photo of a red fox", "a photo of a wolf"]
    model = CLIPModel.from_pretrained(tiny_clip_folder).eval()
    processor = CLIPProcessor.from_pretrained(tiny_clip_folder)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    inputs = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        output = model(**inputs)
    text = (output.logits_per_image / model.logit_scale.exp())[range(5), labels]
    image = torch.cosine_similarity(output.image_embeds, output.image_embeds.flip(0))

    judge = Clip(path=str(tiny_clip_folder))
    scores = judge.load(CONTEXT).score(pixels, pixels.flip(0), labels)

    assert tuple(scores) == judge.columns
    torch.testing.assert_close(scores["clip_text_similarity"], text, atol=1e-3, rtol=0)
    torch.testing.assert_close(scores["clip_image_similarity"], image, atol=1e-3, rtol=0)
    assert len({round(value, 3) for value in scores["clip_text_similarity"].tolist()}) == 5


def test_template_and_class_decide_the_text(tiny_clip_folder: Path) -> None:
    pixels, labels = images(2), torch.tensor([0, 0])
    plain = Clip(path=str(tiny_clip_folder)).load(CONTEXT).score(pixels, pixels, labels)
    other = Clip(path=str(tiny_clip_folder), template="wolf {class_name}{x} wolf")
    templated = other.load(CONTEXT).score(pixels, pixels, labels)
    swapped = Clip(path=str(tiny_clip_folder)).load(
        replace(CONTEXT, class_names=("wolf", "red_fox", "cat"))
    )
    by_wolf = swapped.score(pixels, pixels, torch.tensor([2, 2]))

    name = "clip_text_similarity"
    assert not torch.allclose(plain[name], templated[name], atol=1e-3)
    torch.testing.assert_close(plain[name], by_wolf[name])
    assert templated["clip_image_similarity"].tolist() == pytest.approx([1.0, 1.0])


def test_grey_images_are_judged_as_grey_colour_images(tiny_clip_folder: Path) -> None:
    judge, labels = Clip(path=str(tiny_clip_folder)).load(CONTEXT), torch.tensor([0, 1])
    grey = images(2, channels=1)
    colour = grey.expand(-1, 3, -1, -1)

    expected = judge.score(colour, colour, labels)
    for name, values in judge.score(grey, grey, labels).items():
        torch.testing.assert_close(values, expected[name])


def test_half_precision_checkpoints_are_read(tiny_clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_clip_folder, tmp_path / "clip"))
    CLIPModel.from_pretrained(folder).half().save_pretrained(folder)
    assert CLIPModel.from_pretrained(folder).dtype == torch.float16
    pixels, labels = images(3), torch.tensor([0, 1, 2])
    expected = Clip(path=str(tiny_clip_folder)).load(CONTEXT).score(pixels, pixels, labels)

    scores = Clip(path=str(folder)).load(CONTEXT).score(pixels, pixels, labels)

    name = "clip_text_similarity"
    torch.testing.assert_close(scores[name], expected[name], atol=0.02, rtol=0)


def test_folders_that_are_no_clip_are_checkpoint_errors(
    tiny_clip_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Clip(path=str(tmp_path / "nowhere")).load(CONTEXT)
    folder = Path(shutil.copytree(tiny_clip_folder, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights .*visual_projection\.weight"):
        Clip(path=str(folder)).load(CONTEXT)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Clip(path=str(folder)).load(CONTEXT)


def test_a_template_without_the_class_is_refused() -> None:
    params = {"path": "x", "template": "a photo of an animal"}
    with pytest.raises(ConfigError, match=r"filter\.template"):
        build("filter", MethodSpec(name="clip", params=params))


def test_refusal_needs_no_network() -> None:
    judge = Clip(path="not loaded", min_text_similarity=0.25, max_image_similarity=0.95)

    assert judge.refuse({"clip_text_similarity": 0.25, "clip_image_similarity": 0.95}) == ""
    assert (
        judge.refuse({"clip_text_similarity": 0.24, "clip_image_similarity": 0.5})
        == "low_text_similarity"
    )
    assert (
        judge.refuse({"clip_text_similarity": 0.3, "clip_image_similarity": 0.96})
        == "too_close_to_source"
    )
