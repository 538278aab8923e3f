import math

import torch

from curriculum.losses.balanced_softmax import BalancedSoftmax
from tests.curriculum.losses.told import told


def test_probabilities_are_weighted_by_class_counts() -> None:
    # Theorem 1: n_j e^z_j / sum_i n_i e^z_i, here 1*4 / (8*1 + 2*2 + 1*4).
    logits = torch.tensor([[1.0, 2.0, 4.0]]).log()
    found = BalancedSoftmax().loss(logits, torch.tensor([2]), told(8, 2, 1))
    torch.testing.assert_close(found, torch.tensor([-math.log(4 / 16)]))


def test_rare_labels_push_harder() -> None:
    logits = torch.zeros(2, 2)
    common, rare = BalancedSoftmax().loss(logits, torch.tensor([0, 1]), told(99, 1))
    torch.testing.assert_close(rare, torch.tensor(-math.log(0.01)))
    torch.testing.assert_close(common, torch.tensor(-math.log(0.99)))


def test_a_class_without_images_stays_finite() -> None:
    soft = torch.tensor([[0.5, 0.5, 0.0]])
    counts = told(10, 0, 5)
    loss = BalancedSoftmax(label_smoothing=0.1)
    assert torch.isfinite(loss.loss(torch.zeros(1, 3), soft, counts)).all()
