from dataclasses import replace
from pathlib import Path

import pytest
import torch

from generators.classifier_file import load_classifier
from generators.errors import CheckpointError, ConfigError
from generators.filters.base import JudgeContext
from generators.filters.classifier import RealDataClassifier

CLASS_NAMES = ("cat", "red fox", "wolf")


@pytest.fixture
def context(tiny_classifier_file: Path) -> JudgeContext:
    return JudgeContext(class_names=CLASS_NAMES, classifier=tiny_classifier_file, device="cpu")


def images(count: int, channels: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_scores_are_the_softmax_of_the_class_and_the_cosine_of_the_embeddings(
    context: JudgeContext, tiny_classifier_file: Path
) -> None:
    pixels, sources, labels = images(6), images(6, seed=1), torch.tensor([0, 1, 2, 2, 1, 0])
    network, _ = load_classifier(tiny_classifier_file)
    with torch.no_grad():
        inputs, real = (x.float() / 127.5 - 1 for x in (pixels, sources))
        probability = network(inputs).softmax(1)[range(6), labels]
        made, found = (
            network.forward_head(network.forward_features(x), pre_logits=True)
            for x in (inputs, real)
        )
        similarity = (made * found).sum(1) / (made.norm(dim=1) * found.norm(dim=1))

    scores = RealDataClassifier().load(context).score(pixels, sources, labels)

    assert tuple(scores) == RealDataClassifier().columns
    torch.testing.assert_close(scores["classifier_probability"], probability)
    torch.testing.assert_close(scores["classifier_similarity"], similarity)


def test_a_copy_of_the_source_is_as_close_as_can_be(context: JudgeContext) -> None:
    pixels = images(4)
    scores = RealDataClassifier().load(context).score(pixels, pixels, torch.zeros(4).long())

    assert scores["classifier_similarity"].tolist() == pytest.approx([1.0] * 4)
    assert float(scores["classifier_similarity"].max()) <= 1


def test_other_sizes_and_grey_images_are_adapted(context: JudgeContext) -> None:
    judge, labels = RealDataClassifier().load(context), torch.tensor([0, 1, 2])
    grey = images(3, channels=1, size=16)
    as_colour = judge.score(grey.expand(-1, 3, -1, -1), grey.expand(-1, 3, -1, -1), labels)
    large = grey.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    for name, values in judge.score(grey, grey, labels).items():
        torch.testing.assert_close(values, as_colour[name])
    scores = judge.score(large, large, labels)
    assert all(values.isfinite().all() for values in scores.values())
    assert scores["classifier_probability"].tolist() == pytest.approx(
        as_colour["classifier_probability"].tolist(), abs=0.05
    )


def test_runs_without_a_classifier_or_with_another_data_set_are_refused(
    context: JudgeContext, tmp_path: Path
) -> None:
    judge = RealDataClassifier()
    with pytest.raises(ConfigError, match="trains its real-data classifier"):
        judge.load(replace(context, classifier=None))
    with pytest.raises(ConfigError, match=r"\['cat', 'red fox', 'wolf'\] .*'dog'"):
        judge.load(replace(context, class_names=("cat", "dog", "wolf")))
    with pytest.raises(ConfigError):  # the order of the labels counts
        judge.load(replace(context, class_names=CLASS_NAMES[::-1]))
    with pytest.raises(CheckpointError, match="nowhere"):
        judge.load(replace(context, classifier=tmp_path / "nowhere.safetensors"))


def test_refusal_needs_no_network() -> None:
    judge = RealDataClassifier(min_probability=0.3, min_similarity=0.2, max_similarity=0.95)
    scores = {"classifier_probability": 0.3, "classifier_similarity": 0.95}

    assert judge.refuse(scores) == ""
    assert judge.refuse({**scores, "classifier_probability": 0.29}) == "low_class_probability"
    assert judge.refuse({**scores, "classifier_similarity": 0.1}) == "far_from_source"
    assert judge.refuse({**scores, "classifier_similarity": 0.96}) == "too_close_to_source"
    assert RealDataClassifier().refuse(dict.fromkeys(scores, -0.0)) == ""
