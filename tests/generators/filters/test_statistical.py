"""`distribution` and `confident` against what they say they are."""

from pathlib import Path

import pytest
import torch

from generators.class_statistics import mahalanobis
from generators.classifier_file import load_classifier, load_statistics, save_classifier
from generators.errors import CheckpointError
from generators.filters.base import JudgeContext
from generators.filters.confident import Confident
from generators.filters.distribution import Distribution
from tests.generators.filters.test_classifier import CLASS_NAMES, images

LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.fixture
def context(tiny_classifier_file: Path) -> JudgeContext:
    return JudgeContext(class_names=CLASS_NAMES, classifier=tiny_classifier_file, device="cpu")


def test_distances_are_in_units_of_real_ones(context: JudgeContext) -> None:
    assert context.classifier is not None
    pixels, known = images(6), load_statistics(context.classifier)
    network, _ = load_classifier(context.classifier)
    with torch.no_grad():
        features = network.forward_features(pixels.float() / 127.5 - 1)  # type: ignore[operator]
        seen = network.forward_head(features, pre_logits=True)  # type: ignore[operator]
    wanted = mahalanobis(seen, known["means"][LABELS], known["precision"]) / known["distance"]
    scores = Distribution().load(context).score(pixels, pixels, LABELS)
    torch.testing.assert_close(scores["distribution_distance"], wanted)
    judge = Distribution(max_distance=1.5, min_distance=0.5)
    refusals = [judge.refuse({"distribution_distance": d}) for d in (0.4, 0.5, 1.5, 1.6)]
    assert refusals == ["too_usual", "", "", "out_of_distribution"]


@pytest.mark.parametrize(
    ("confidence", "wanted"),
    [
        ([0.0, 0.0, 0.0], "any"),  # every other class is confident
        ([1.1, 1.1, 1.1], "none"),  # none is
    ],
)
def test_only_confident_classes_count(
    context: JudgeContext, confidence: list[float], wanted: str, tmp_path: Path
) -> None:
    assert context.classifier is not None
    network, info = load_classifier(context.classifier)
    path, known = tmp_path / "c.safetensors", load_statistics(context.classifier)
    save_classifier(path, network, info, {**known, "confidence": torch.tensor(confidence)})
    told = JudgeContext(class_names=CLASS_NAMES, classifier=path, device="cpu")
    pixels = images(6)
    found = Confident().load(told).score(pixels, pixels, LABELS)["confident_margin"]
    with torch.no_grad():
        p = network(pixels.float() / 127.5 - 1).softmax(1)
    own = p.gather(1, LABELS[:, None])[:, 0]
    others = p.scatter(1, LABELS[:, None], -1.0).max(1).values
    expected = others - own if wanted == "any" else torch.full((6,), -1.0)
    torch.testing.assert_close(found, expected)
    refused = [Confident().refuse({"confident_margin": value}) for value in found.tolist()]
    assert refused == ["label_issue" if value > 0 else "" for value in found.tolist()]


def test_a_classifier_without_statistics_is_refused(tmp_path: Path, context: JudgeContext) -> None:
    assert context.classifier is not None
    network, info = load_classifier(context.classifier)
    save_classifier(tmp_path / "c.safetensors", network, info)
    bare = JudgeContext(
        class_names=CLASS_NAMES, classifier=tmp_path / "c.safetensors", device="cpu"
    )
    for judge in (Distribution(), Confident()):
        with pytest.raises(CheckpointError, match="no statistics"):
            judge.load(bare)
