import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from generators.classifier_file import (
    METADATA_KEY,
    ClassifierInfo,
    load_classifier,
    save_classifier,
)
from generators.classifiers import (
    SMALL_CNN,
    Normalization,
    create_classifier,
    pretrained_normalization,
    to_inputs,
)
from generators.errors import CheckpointError, ConfigError

INFO = ClassifierInfo(
    model=SMALL_CNN,
    class_names=("zero", "one", "two"),
    channels=1,
    image_size=(8, 8),
    normalization=Normalization(mean=(0.25,), std=(0.5,)),
    details={"seed": 3, "metrics": {"top1": 91.5}},
)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 9), (3, 32)])
def test_small_cnn_takes_tiny_images_and_exposes_embeddings(channels: int, side: int) -> None:
    model = create_classifier(SMALL_CNN, 5, channels).eval()
    images = torch.rand(4, channels, side, side)
    embeddings = model.forward_head(model.forward_features(images), pre_logits=True)
    assert embeddings.shape == (4, 128)
    torch.testing.assert_close(model.head(embeddings), model(images))
    assert 50_000 < sum(p.numel() for p in model.parameters()) < 100_000


def test_small_cnn_is_cheap_enough_for_one_thread() -> None:
    # 1.2 million operations forward is what 8,000 training images a second allow on one core.
    model = create_classifier(SMALL_CNN, 10, 1)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 1, 8, 8))
    assert counter.get_total_flops() < 1_300_000


def test_same_seed_same_weights_and_the_global_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (create_classifier(SMALL_CNN, 3, 1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", (32, 32)), ("test_vit", (48, 64)), ("test_efficientnet", None)]
)
def test_timm_models_take_one_channel(name: str, size: tuple[int, int] | None) -> None:
    model = create_classifier(name, 4, 1, image_size=size).eval()
    images = torch.rand(2, 1, *(size or (64, 64)))
    features = model.forward_features(images)
    assert model(images).shape == (2, 4)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)


def test_unknown_model_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"resnet_18.*'resnet18'"):
        create_classifier("resnet_18", 4, 3)
    with pytest.raises(ConfigError, match="small_cnn"):
        create_classifier("small_cn", 4, 3)
    with pytest.raises(ConfigError, match="pretrained"):
        create_classifier(SMALL_CNN, 4, 3, pretrained=True)
    with pytest.raises(ConfigError, match="no_such_tag"):
        create_classifier("resnet18.no_such_tag", 4, 3, pretrained=True)


def test_normalization_and_resizing() -> None:
    images = torch.rand(2, 3, 4, 4)
    scaled = Normalization(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)).apply(images)
    torch.testing.assert_close(scaled[:, 1], (images[:, 1] - 0.2) / 0.25)
    torch.testing.assert_close(to_inputs(images, Normalization()), images * 2 - 1)
    halved = to_inputs(torch.full((1, 1, 8, 6), 0.75), Normalization(), (4, 3))
    torch.testing.assert_close(halved, torch.full((1, 1, 4, 3), 0.5))
    assert pretrained_normalization("resnet18").mean == (0.485, 0.456, 0.406)
    with pytest.raises(ConfigError, match="resnet_18"):
        pretrained_normalization("resnet_18")


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", (40, 56)), (SMALL_CNN, (3, 3)), ("inception_v3", (32, 32))]
)
def test_a_size_the_network_cannot_take_is_found_at_once(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"image_size: \("):
        create_classifier(name, 4, 3, image_size=size)


@pytest.mark.parametrize("name", [SMALL_CNN, "test_vit"])
def test_saved_classifier_comes_back_whole(name: str, tmp_path) -> None:
    info = ClassifierInfo.from_json({**INFO.as_json(), "model": name, "image_size": [48, 32]})
    model = create_classifier(name, 3, 1, image_size=(48, 32), seed=5).eval()
    path = tmp_path / "deep" / "judge.safetensors"
    save_classifier(path, model, info)
    loaded, found = load_classifier(path)
    assert found == info
    assert found.details["metrics"] == {"top1": 91.5}
    assert not loaded.training
    images = torch.rand(2, 1, 48, 32)
    assert torch.equal(loaded(images), model(images))
    assert [item.name for item in path.parent.iterdir()] == ["judge.safetensors"]


def test_bad_checkpoints_are_named(tmp_path) -> None:
    path = tmp_path / "judge.safetensors"
    with pytest.raises(CheckpointError, match="no classifier file"):
        load_classifier(path)
    model = create_classifier(SMALL_CNN, 3, 1)
    save_classifier(path, model, INFO)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_classifier(path)
    weights = model.state_dict()
    save_file(weights, path)
    with pytest.raises(CheckpointError, match="metadata"):
        load_classifier(path)
    save_file(weights, path, metadata={METADATA_KEY: json.dumps({"model": SMALL_CNN})})
    with pytest.raises(CheckpointError, match="damaged"):
        load_classifier(path)
    four = {**INFO.as_json(), "class_names": ["a", "b", "c", "d"]}
    save_file(weights, path, metadata={METADATA_KEY: json.dumps(four)})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_classifier(path)


def test_equal_classifiers_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        model = create_classifier(SMALL_CNN, 3, 1, seed=4)
        info = ClassifierInfo(
            model=SMALL_CNN, class_names=("a", "b", "c"), channels=1, image_size=(8, 8)
        )
        save_classifier(tmp_path / name, model, info)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
