"""`distribution` and `confident` against what they say they are."""

from pathlib import Path

import pytest
import torch

from generators.class_statistics import mahalanobis
from generators.classifier_file import load_classifier, load_statistics, save_classifier
from generators.errors import CheckpointError
from generators.filters.base import JudgeContext
from generators.filters.confident import Confident, margins
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


def off_diagonal(probabilities: list[float], label: int, thresholds: list[float]) -> bool:
    """Equation 1 of confident learning, in words: the most probable confident class is another."""
    confident = [(p, j) for j, p in enumerate(probabilities) if p >= thresholds[j]]
    return bool(confident) and max(confident)[1] != label


def test_refused_is_what_is_off_the_diagonal_of_the_confident_joint() -> None:
    draws = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(500, 4, generator=draws)).softmax(1)
    labels = torch.randint(4, (500,), generator=draws)
    thresholds = [0.2, 0.5, 0.4, 0.8]
    found = margins(p, labels, torch.tensor(thresholds))
    wanted = [
        off_diagonal(row, label, thresholds)
        for row, label in zip(p.tolist(), labels.tolist(), strict=True)
    ]
    assert 100 < sum(wanted) < 400
    refused = [bool(Confident().refuse({"confident_margin": value})) for value in found.tolist()]
    assert refused == wanted


def test_margins_on_hand_made_numbers() -> None:
    p = torch.tensor([[0.6, 0.35, 0.05], [0.6, 0.35, 0.05], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])
    thresholds = torch.tensor([0.9, 0.3, 0.9])
    # the own class, more probable, is not confident; it alone is; another one alone is
    found = margins(p[:3], torch.tensor([0, 1, 2]), thresholds)
    assert found.tolist() == pytest.approx([0.35, -1.0, 0.3])
    both = margins(p[3:], torch.tensor([0]), torch.tensor([0.1, 0.3, 0.9]))
    assert both.tolist() == pytest.approx([0.7])


def test_confidence_is_that_of_real_images(context: JudgeContext) -> None:
    assert context.classifier is not None
    pixels, known = images(6), load_statistics(context.classifier)
    network, _ = load_classifier(context.classifier)
    with torch.no_grad():
        p = network(pixels.float() / 127.5 - 1).softmax(1)
    found = Confident().load(context).score(pixels, pixels, LABELS)["confident_margin"]
    torch.testing.assert_close(found, margins(p, LABELS, known["confidence"]))


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
