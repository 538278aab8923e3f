import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generators.errors import CheckpointError, ConfigError
from generators.filters.base import JudgeContext
from generators.filters.timm import TimmClassifier

CONTEXT = JudgeContext(class_names=("cat", "red fox", "wolf"), classifier=None, device="cpu")
OUTPUTS = ("wolf", "toaster", "red fox", "cat", "wolf")


def images(count: int, height: int = 60, width: int = 80) -> torch.Tensor:
    """Smooth colour images, uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 7, generator=generator) * 255
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return fine.round().to(torch.uint8)


def reference(folder: Path, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings and probabilities through timm's own loading and PIL transform."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    inputs = torch.stack(
        [transform(Image.fromarray(np.asarray(image.permute(1, 2, 0)))) for image in pixels]
    )
    assert inputs.shape[2:] == (40, 40)
    with torch.no_grad():
        features = network.forward_features(inputs)
        embeddings = network.forward_head(features, pre_logits=True)
        return embeddings, network.forward_head(features).softmax(1)


def test_scores_are_those_of_timm_with_outputs_of_a_class_added_up(tiny_timm_folder: Path) -> None:
    pixels, labels = images(6), torch.tensor([0, 1, 2, 0, 1, 2])
    embeddings, by_output = reference(tiny_timm_folder, pixels)
    expected = torch.stack([by_output[:, 3], by_output[:, 2], by_output[:, 0] + by_output[:, 4]], 1)

    judge = TimmClassifier(weights=str(tiny_timm_folder), classes=OUTPUTS)
    scores = judge.load(CONTEXT).score(pixels, pixels.flip(0), labels)

    probability = expected[range(6), labels]
    torch.testing.assert_close(scores["timm_probability"], probability, atol=2e-3, rtol=0)
    similarity = torch.cosine_similarity(embeddings, embeddings.flip(0))
    torch.testing.assert_close(scores["timm_similarity"], similarity, atol=2e-3, rtol=0)
    assert similarity.min() < 0.9999
    assert tuple(scores) == judge.columns


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_single_weights_file_gives_the_same_scores_as_the_folder(
    tiny_timm_folder: Path, tmp_path: Path, suffix: str
) -> None:
    """The file has no data config of its own, so the model's default one is given to both."""
    folder = Path(shutil.copytree(tiny_timm_folder, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    default = timm.get_pretrained_cfg("test_resnet").to_dict()
    for name in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        config["pretrained_cfg"][name] = default[name]
    (folder / "config.json").write_text(json.dumps(config))
    path = tmp_path / f"weights.{suffix}"
    weights = load_file(folder / "model.safetensors")
    if suffix == "pth":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)
    pixels, labels = images(3), torch.tensor([0, 1, 2])

    of_folder = TimmClassifier(weights=str(folder), classes=OUTPUTS).load(CONTEXT)
    of_file = TimmClassifier(model="test_resnet", weights=str(path), classes=OUTPUTS).load(CONTEXT)

    expected = of_folder.score(pixels, pixels, labels)
    for name, values in of_file.score(pixels, pixels, labels).items():
        torch.testing.assert_close(values, expected[name])


def test_one_channel_networks_take_grey_images(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    save_file(network.state_dict(), tmp_path / "grey.safetensors")
    judge = TimmClassifier(
        model="test_resnet",
        weights=str(tmp_path / "grey.safetensors"),
        classes=CONTEXT.class_names,
        channels=1,
    ).load(CONTEXT)
    pixels = images(2)[:, :1]

    scores = judge.score(pixels, pixels, torch.tensor([0, 2]))

    assert scores["timm_similarity"].tolist() == pytest.approx([1.0, 1.0])


def test_classes_can_stand_in_a_file(tiny_timm_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(OUTPUTS) + "\n")
    pixels, labels = images(3), torch.tensor([0, 1, 2])
    listed = TimmClassifier(weights=str(tiny_timm_folder), classes=OUTPUTS).load(CONTEXT)
    read = TimmClassifier(weights=str(tiny_timm_folder), classes=str(file)).load(CONTEXT)

    expected = listed.score(pixels, pixels, labels)["timm_probability"]
    assert torch.equal(read.score(pixels, pixels, labels)["timm_probability"], expected)
    with pytest.raises(ConfigError, match="text file"):
        TimmClassifier(weights=str(tiny_timm_folder), classes=str(tmp_path / "no.txt")).load(
            CONTEXT
        )


def test_class_lists_that_do_not_fit_are_refused(tiny_timm_folder: Path) -> None:
    weights = str(tiny_timm_folder)
    with pytest.raises(ConfigError, match=r"filter\.classes: .*lacks \['red fox'\]"):
        TimmClassifier(weights=weights, classes=("cat", "wolf", "a", "b", "c")).load(CONTEXT)
    with pytest.raises(ConfigError, match="'4 names' is not allowed; expected 5 names"):
        TimmClassifier(weights=weights, classes=OUTPUTS[:4]).load(CONTEXT)


def test_weights_that_cannot_be_loaded_are_checkpoint_errors(
    tiny_timm_folder: Path, tmp_path: Path
) -> None:
    def load(model: str, weights: Path, classes: tuple[str, ...] = OUTPUTS) -> None:
        TimmClassifier(model=model, weights=str(weights), classes=classes).load(CONTEXT)

    with pytest.raises(CheckpointError, match="no file or folder"):
        load("test_resnet", tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="cannot load"):
        load("test_resnet", tiny_timm_folder / "model.safetensors", OUTPUTS[:4])
    with pytest.raises(CheckpointError, match="cannot load"):
        load("test_vit", tiny_timm_folder / "model.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"12345")
    with pytest.raises(CheckpointError, match="cannot load"):
        load("test_resnet", tmp_path / "broken.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="cannot load"):
        load("", tmp_path / "empty")
    with pytest.raises(ConfigError, match="did you mean 'test_resnet'"):
        load("test_resnt", tiny_timm_folder / "model.safetensors")


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "code": Path("x")}, path)

    with pytest.raises(CheckpointError, match="weights_only"):
        TimmClassifier(model="test_resnet", weights=str(path), classes=OUTPUTS).load(CONTEXT)


def test_refusal_needs_no_network() -> None:
    judge = TimmClassifier(classes=OUTPUTS, min_probability=0.3, max_similarity=0.9)

    assert judge.refuse({"timm_probability": 0.3, "timm_similarity": 0.9}) == ""
    assert (
        judge.refuse({"timm_probability": 0.2, "timm_similarity": 0.5}) == "low_class_probability"
    )
    assert judge.refuse({"timm_probability": 0.5, "timm_similarity": 1.0}) == "too_close_to_source"
