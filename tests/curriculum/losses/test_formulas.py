"""Each loss against its formula on hand-made numbers."""

import math

import pytest
import torch

from curriculum.losses.balpoe import Balpoe
from curriculum.losses.class_balanced import ClassBalanced, effective_weights
from curriculum.losses.focal import Focal
from curriculum.losses.lade import Lade
from curriculum.losses.ldam import Ldam, ldam_margins
from curriculum.losses.logit_adjustment import LogitAdjustment
from curriculum.losses.ride import Ride
from curriculum.losses.vector_scaling import VectorScaling
from generators.errors import ConfigError
from tests.curriculum.losses.told import told

PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1]])
LOGITS = PROBABILITIES.log()
ONE = torch.tensor([1])


def test_logit_adjustment_shifts_by_tau_log_prior() -> None:
    found = LogitAdjustment(tau=2).loss(LOGITS, ONE, told(5, 3, 2))
    weighted = [0.7 * 0.25, 0.2 * 0.09, 0.1 * 0.04]
    assert found.item() == pytest.approx(-math.log(weighted[1] / sum(weighted)))


def test_effective_weights_sum_to_the_classes() -> None:
    # beta 0.5: effective numbers 1, 1.5, 1.75 for counts 1, 2, 3
    found = effective_weights(torch.tensor([1, 2, 3]), 0.5, torch.zeros(1))
    inverse = torch.tensor([1, 1 / 1.5, 1 / 1.75])
    torch.testing.assert_close(found, 3 * inverse / inverse.sum())
    close = effective_weights(torch.tensor([1, 10]), 0.999999, torch.zeros(1))
    assert (close[0] / close[1]).item() == pytest.approx(10, rel=1e-3)


def test_class_balanced_weights_begin_when_they_are_due() -> None:
    loss = ClassBalanced(beta=0.5, deferred_percent=80)
    early, late = (loss.loss(LOGITS, ONE, told(1, 2, 3, progress=p)).item() for p in (0.79, 0.8))
    assert early == pytest.approx(-math.log(0.2))
    weight = 3 / 1.5 / (1 + 1 / 1.5 + 1 / 1.75)
    assert late == pytest.approx(-weight * math.log(0.2))


def test_focal_lowers_easy_samples() -> None:
    found = Focal(gamma=2).loss(LOGITS, torch.tensor([0]), told(1, 1, 1)).item()
    assert found == pytest.approx(-(0.3**2) * math.log(0.7))
    weighted = ClassBalanced(beta=0, gamma=2).loss(LOGITS, torch.tensor([0]), told(9, 1, 1))
    assert weighted.item() == pytest.approx(found)


def test_ldam_margins_and_its_loss() -> None:
    margins = ldam_margins(torch.tensor([16.0, 1.0, 81.0]), 0.5)
    torch.testing.assert_close(margins, torch.tensor([0.25, 0.5, 0.5 / 3]))
    cosines = torch.tensor([[0.5, 0.4, 0.1]])
    found = Ldam(deferred_percent=100).loss(30 * cosines, ONE, told(16, 1, 81)).item()
    own, others = math.exp(30 * (0.4 - 0.5)), math.exp(15) + math.exp(3)
    assert found == pytest.approx(-math.log(own / (own + others)))
    assert Ldam().head.kind == "cosine"


def test_vector_scaling_has_temperatures_by_class() -> None:
    found = VectorScaling(gamma=0.5, tau=0).loss(LOGITS, ONE, told(16, 4, 1)).item()
    powers = [0.7, 0.2**0.5, 0.1**0.25]
    assert found == pytest.approx(-math.log(powers[1] / sum(powers)))


def test_lade_adds_its_bound() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.5, 2.0], [0.0, 0.3]])
    labels = torch.tensor([0, 1, 0])
    found = Lade(alpha=0.5, strength=0.1).loss(logits, labels, told(3, 1))
    shares, bound = (0.75, 0.25), 0.0
    for c, own in enumerate(((1.0 + 0.0) / 2, 2.0)):
        weighted = [
            math.exp(z[c].item()) * 0.5 / shares[y] for z, y in zip(logits, labels, strict=True)
        ]
        balanced = math.log(sum(weighted) / 3)
        bound += shares[c] * (own - balanced - 0.1 * balanced**2)
    plain = LogitAdjustment().loss(logits, labels, told(3, 1))
    torch.testing.assert_close(found, plain - 0.5 * bound)


def test_balpoe_is_the_mean_of_adjusted_experts() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    labels, counts = torch.tensor([3, 1]), told(40, 9, 3, 1)
    each = [
        LogitAdjustment(tau=tau).loss(logits[:, number], labels, counts)
        for number, tau in enumerate((0, 1, 2))
    ]
    torch.testing.assert_close(Balpoe().loss(logits, labels, counts), torch.stack(each).mean(0))
    single = Balpoe(taus=(1.0,)).loss(logits[:, :1], labels, counts)
    torch.testing.assert_close(
        single, each[1] * 0 + LogitAdjustment().loss(logits[:, 0], labels, counts)
    )
    with pytest.raises(ConfigError, match="mean of 1"):
        Balpoe(taus=(0.0, 1.0))


def test_ride_rewards_experts_that_differ() -> None:
    counts, labels = told(40, 9, 3, progress=0.9), torch.tensor([0, 2])
    logits = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1))
    plain = Ride(diversity=0, num_experts=2).loss(logits, labels, counts)
    torch.testing.assert_close(plain, sum(Ldam().loss(z, labels, counts) for z in logits.unbind(1)))
    raw = 0.05 * 3 * torch.tensor([40, 9, 3]) / 52 + 0.95
    temperatures = raw / raw.max()
    mean = (logits.mean(1) / temperatures).softmax(-1)
    apart = sum(
        (mean * (mean / (z / temperatures).softmax(-1)).log()).sum(-1) for z in logits.unbind(1)
    )
    found = Ride(num_experts=2).loss(logits, labels, counts)
    torch.testing.assert_close(found, plain - 0.45 * temperatures.mean() ** 2 * apart)
    alike = logits[:, :1].expand(-1, 2, -1)
    torch.testing.assert_close(
        Ride(num_experts=2).loss(alike, labels, counts),
        Ride(diversity=0, num_experts=2).loss(alike, labels, counts),
    )
