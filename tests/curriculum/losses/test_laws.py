"""What holds for every loss, by name: a new file is under these at once."""

import pytest
import torch
from torch.nn import functional

from generators.registry import MethodSpec, build, names

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


@pytest.mark.parametrize("name", names("loss"))
def test_uniform_counts_give_plain_cross_entropy(name: str) -> None:
    found = build("loss", MethodSpec(name=name)).loss(LOGITS, LABELS, torch.full((4,), 7))
    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, LABELS, reduction="none"))


@pytest.mark.parametrize("name", names("loss"))
def test_soft_targets_mix_the_losses_of_hard_ones(name: str) -> None:
    method, counts = build("loss", MethodSpec(name=name)), torch.tensor([50, 9, 3, 1])
    hard = functional.one_hot(LABELS, 4).float()
    once, other = method.loss(LOGITS, LABELS, counts), method.loss(LOGITS, LABELS.flip(0), counts)
    torch.testing.assert_close(method.loss(LOGITS, hard, counts), once)
    mixed = method.loss(LOGITS, 0.25 * hard + 0.75 * hard.flip(0), counts)
    torch.testing.assert_close(mixed, 0.25 * once + 0.75 * other)
    assert mixed.shape == (6,)


@pytest.mark.parametrize("name", names("loss"))
def test_label_smoothing_is_a_share(name: str) -> None:
    spec = MethodSpec(name=name, params={"label_smoothing": 0.1})
    found = build("loss", spec).loss(LOGITS, LABELS, torch.full((4,), 7))
    wanted = functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(found, wanted)
