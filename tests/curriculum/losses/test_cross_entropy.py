import math

import torch

from curriculum.losses.cross_entropy import CrossEntropy
from tests.curriculum.losses.told import told


def test_minus_log_probability_of_the_label() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]).log()
    found = CrossEntropy().loss(logits, torch.tensor([0, 2]), told(9, 1, 1))
    torch.testing.assert_close(found, torch.tensor([-math.log(0.7), -math.log(0.25)]))


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    found = CrossEntropy(label_smoothing=0.3).loss(logits, torch.tensor([0]), told(1, 1, 1))
    wanted = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    torch.testing.assert_close(found, torch.tensor([wanted]))
