import math

import pytest
import torch

from curriculum.hard_sets.low_confidence import LowConfidence
from generators.errors import ConfigError
from generators.registry import MethodSpec, build

LABELS = torch.tensor([0, 0, 1, 1])
# True-class probabilities 0.9, 0.4, 0.7, 0.2.
LOGITS = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]).log() + 3
COUNTS = torch.tensor([2, 2])


def test_threshold_is_on_the_true_class_probability() -> None:
    assert LowConfidence().needs_logits
    assert LowConfidence().select(LOGITS, LABELS, COUNTS).tolist() == [False, True, False, True]
    assert LowConfidence(threshold=0.71).select(LOGITS, LABELS, COUNTS).tolist() == [
        False,
        True,
        True,
        True,
    ]
    even = torch.zeros(1, 2)
    assert not LowConfidence(threshold=0.5).select(even, torch.tensor([1]), COUNTS).item()


def test_fraction_takes_the_least_confident() -> None:
    for fraction, marked in ((0.1, [3]), (0.25, [3]), (0.5, [1, 3]), (0.75, [1, 2, 3]), (1, None)):
        found = LowConfidence(fraction=fraction).select(LOGITS, LABELS, COUNTS)
        wanted = [0, 1, 2, 3] if marked is None else marked
        assert found.nonzero()[:, 0].tolist() == wanted


def test_fraction_is_not_cut_short_by_floats() -> None:
    assert math.floor(0.29 * 100) == 28  # the trap
    logits = torch.stack([torch.linspace(-1, 1, 100), torch.zeros(100)], 1)
    found = LowConfidence(fraction=0.29).select(logits, torch.zeros(100, dtype=torch.long), COUNTS)
    assert found.sum() == 29


def test_ties_stay_together() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    found = LowConfidence(fraction=0.3).select(logits, torch.tensor([0, 0, 0]), COUNTS)
    assert found.tolist() == [True, True, False]


def test_no_images_no_marks() -> None:
    empty = torch.zeros(0, 2)
    none = torch.zeros(0, dtype=torch.long)
    assert LowConfidence(fraction=0.5).select(empty, none, COUNTS).tolist() == []


def test_refuses_both_none_and_out_of_range() -> None:
    with pytest.raises(ConfigError, match="logits"):
        LowConfidence().select(None, LABELS, COUNTS)
    both = MethodSpec(name="low_confidence", params={"threshold": 0.5, "fraction": 0.5})
    with pytest.raises(ConfigError, match="fraction"):
        build("hard_set", both)
    with pytest.raises(ConfigError, match="threshold"):
        build("hard_set", MethodSpec(name="low_confidence", params={"threshold": 1.5}))
