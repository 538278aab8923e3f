"""Rebalancers on embeddings that are known exactly, and what holds for every one of them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum.rebalancers.base import FeatureSet
from curriculum.rebalancers.class_means import ClassMeans
from curriculum.rebalancers.logit_adjustment import LogitAdjustment
from curriculum.rebalancers.retrain import Retrain
from curriculum.rebalancers.tau_normalization import TauNormalization
from curriculum.rebalancers.weight_scaling import WeightScaling
from generators.classifiers import create_classifier
from generators.errors import ConfigError
from generators.heads import HeadSpec, classifier_of, with_head
from generators.registry import MethodSpec, build, names

COUNTS = torch.tensor([80, 15, 5])


class Head(nn.Module):
    """A network that is its last layer."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            if bias is not None:
                self.head.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(x)
        return found


def clouds(spread: float = 1.0) -> FeatureSet:
    """Three Gaussian classes on a plane, 80 : 15 : 5."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(10 * COUNTS)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    noise = spread * torch.randn(len(labels), 2, generator=draw)
    return FeatureSet(
        embeddings=centres[labels] + noise, labels=labels, class_counts=COUNTS, seed=0
    )


def balanced_accuracy(network: nn.Module, features: FeatureSet) -> float:
    with torch.no_grad():
        right = (network(features.embeddings).argmax(1) == features.labels).float()
    return sum(float(right[features.labels == label].mean()) for label in range(3)) / 3


def trained() -> Head:
    """Plain cross-entropy on the clouds."""
    features, head = clouds(), Head(torch.zeros(3, 2), torch.zeros(3))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(features.embeddings), features.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    return head


@pytest.mark.parametrize("name", [name for name in names("rebalancer") if name != "none"])
def test_balanced_accuracy_rises_where_plain_training_favours_the_frequent(name: str) -> None:
    features, plain = clouds(), trained()
    changed = build("rebalancer", MethodSpec(name=name)).apply(copy.deepcopy(plain), features)
    assert balanced_accuracy(changed, features) > balanced_accuracy(plain, features) + 0.02


def test_tau_normalization_divides_by_norms() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    found = TauNormalization(tau=0.5).apply(Head(weight, torch.ones(2)), clouds())
    wanted = torch.stack([weight[0] / 5**0.5, weight[1] / 2**0.5])
    layer: Any = classifier_of(found)
    torch.testing.assert_close(layer.weight, wanted)
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("bias", [None, torch.tensor([0.1, 0.2, 0.3])])
def test_logit_adjustment_subtracts_the_log_prior(bias: Tensor | None) -> None:
    head, x = Head(torch.eye(3, 2), bias), torch.randn(5, 2)
    before = head(x).detach()
    found = LogitAdjustment(tau=2).apply(head, clouds())
    torch.testing.assert_close(found(x), before - 2 * (COUNTS / 100).log())
    again = LogitAdjustment(tau=0).apply(found, clouds())
    torch.testing.assert_close(again(x), before - 2 * (COUNTS / 100).log())


def test_class_means_are_the_means() -> None:
    features = clouds()
    found = ClassMeans(scale=1).apply(Head(torch.eye(3, 2)), features)
    means = [features.embeddings[features.labels == label].mean(0) for label in range(3)]
    wanted = torch.stack([torch.cosine_similarity(features.embeddings, m[None]) for m in means], 1)
    torch.testing.assert_close(found(features.embeddings).detach(), wanted)


def test_retraining_is_as_good_as_knowing_the_balanced_problem() -> None:
    features = clouds()
    found = Retrain(steps=600).apply(Head(torch.zeros(3, 2)), features)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    best = Head(centres, -centres.square().sum(1) / 2)  # the Bayes classifier of equal classes
    assert balanced_accuracy(found, features) > balanced_accuracy(best, features) - 0.01


def test_weight_scaling_keeps_directions() -> None:
    weight = torch.tensor([[3.0, 0.2], [-0.5, 1.0], [-0.3, -1.0]])
    found: Any = classifier_of(WeightScaling(steps=300).apply(Head(weight), clouds()))
    cosines = torch.cosine_similarity(found.weight, weight)
    torch.testing.assert_close(cosines, torch.ones(3))
    assert not torch.allclose(found.weight, weight, rtol=0.05)


def test_balanced_rows_are_of_all_classes_alike() -> None:
    features = clouds()
    rows = features.balanced(3000)
    shares = torch.bincount(features.labels[rows], minlength=3) / 3000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    assert torch.equal(rows, features.balanced(3000))


@pytest.mark.parametrize("name", [name for name in names("rebalancer") if name != "none"])
@pytest.mark.parametrize("head", [HeadSpec(kind="cosine"), HeadSpec(num_experts=2)])
def test_heads_that_are_not_linear_are_refused(name: str, head: HeadSpec) -> None:
    network = with_head(create_classifier("small_cnn", 3, 1, image_size=(8, 8)), head)
    with pytest.raises(ConfigError, match="linear"):
        build("rebalancer", MethodSpec(name=name)).apply(network, clouds())
