import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import nn

from curriculum.evaluate import EvaluateSpec, Metrics, evaluate, metrics_of, predict_logits
from curriculum.loader import TensorImages
from curriculum.mixture import Rows
from generators.classifiers import Normalization, create_classifier
from generators.errors import DataError

# Class 0: 3 of 4 right; class 1: 1 of 2; class 2: 0 of 1; class 3: no test image.
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 0, 0])
LOGITS = 3 * nn.functional.one_hot(PREDICTED, 4).float()
COUNTS = torch.tensor([500, 50, 5, 3])


def test_accuracies_on_a_hand_made_table() -> None:
    found = metrics_of(LOGITS, LABELS, COUNTS)
    assert found.top1 == pytest.approx(100 * 4 / 7)
    assert found.per_class == (75.0, 50.0, 0.0, None)
    assert found.balanced_accuracy == pytest.approx(125 / 3)
    assert (found.many, found.medium, found.few) == (75.0, 50.0, 0.0)
    # F1: 6 / (4 + 5), 2 / (2 + 2), 0; the class without images is left out.
    assert found.macro_f1 == pytest.approx(100 * (6 / 9 + 2 / 4 + 0) / 3)
    assert found.num_images == 7


def test_split_borders_and_splits_without_classes() -> None:
    borders = torch.tensor([101, 100, 20, 19])
    logits = 3 * torch.eye(4)
    logits[0] = logits[1].clone()  # only class 0 is wrong
    found = metrics_of(logits, torch.arange(4), borders)
    assert (found.many, found.medium, found.few) == (0.0, 100.0, 100.0)
    none = metrics_of(logits, torch.arange(4), torch.full((4,), 50))
    assert (none.many, none.few) == (None, None)
    assert none.medium == 75.0
    other = metrics_of(logits, torch.arange(4), torch.tensor([5, 30, 30, 30]), 10, 20)
    assert (other.few, other.medium, other.many) == (0.0, None, 100.0)


def test_expected_calibration_error_by_hand() -> None:
    # Two bins in use: 0.9 sure and 1 of 2 right; 0.6 sure and right.
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    found = metrics_of(probabilities.log(), torch.tensor([0, 1, 0]), torch.tensor([9, 9]))
    assert found.ece == pytest.approx(2 / 3 * abs(0.9 - 0.5) + 1 / 3 * abs(0.6 - 1), abs=1e-6)


def test_agrees_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 6, generator=generator)
    labels = torch.randint(6, (500,), generator=generator)
    found = metrics_of(logits, labels, torch.full((6,), 50))
    predicted = logits.argmax(1)
    assert found.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))
    assert found.balanced_accuracy == pytest.approx(
        100 * balanced_accuracy_score(labels, predicted), abs=1e-4
    )


def test_json_round_trip() -> None:
    found = metrics_of(LOGITS, LABELS, COUNTS)
    assert Metrics.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert found.scalars()["few"] == 0.0
    assert "per_class" not in found.scalars()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluation_normalises_resizes_and_restores_the_mode(num_workers: int) -> None:
    images = torch.randint(0, 256, (23, 1, 16, 16), dtype=torch.uint8)
    labels = np.arange(23) % 3
    table = TensorImages(images=images, rows=Rows.real(labels))
    model = create_classifier("small_cnn", 3, 1).train()
    scaling = Normalization(mean=(0.2,), std=(0.7,))
    spec = EvaluateSpec(
        normalization=scaling, batch_size=5, image_size=(8, 8), num_loader_workers=num_workers
    )
    logits = predict_logits(model, table, spec)
    assert model.training
    assert not logits.is_inference()
    unit = images.float() / 255
    small = nn.functional.interpolate(unit, (8, 8), mode="bilinear", antialias=True)
    with torch.no_grad():
        wanted = model.eval()((small - 0.2) / 0.7)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    counts = torch.tensor([200, 50, 5])
    assert evaluate(model, table, counts, spec) == metrics_of(
        logits, torch.from_numpy(labels), counts
    )


def test_no_test_image() -> None:
    nothing = TensorImages(
        images=torch.zeros(0, 1, 8, 8, dtype=torch.uint8),
        rows=Rows.real(np.zeros(0, dtype=np.int64)),
    )
    with pytest.raises(DataError, match="no image"):
        evaluate(create_classifier("small_cnn", 3, 1), nothing, COUNTS[:3], EvaluateSpec())
