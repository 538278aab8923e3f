"""Statistics of classes on numbers that are known."""

import numpy as np
import pytest
import torch

from generators.class_statistics import SHRINKAGE, mahalanobis, statistics_of


def test_confidence_is_the_mean_probability_of_the_own_class() -> None:
    logits = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]]).log()
    found = statistics_of(torch.randn(3, 2), logits, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(found["confidence"], torch.tensor([0.8, 0.6]))


def test_distances_are_those_of_the_pooled_shrunk_covariance() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 200 + [1] * 3)
    embeddings = torch.randn(203, 3, generator=draw) * torch.tensor([1.0, 2.0, 5.0])
    embeddings += torch.tensor([[10.0, 0, 0], [0, 10.0, 0]])[labels]
    found = statistics_of(embeddings, torch.zeros(203, 2), labels)
    means = np.stack([embeddings[labels == c].mean(0).numpy() for c in (0, 1)])
    np.testing.assert_allclose(found["means"], means, rtol=1e-5)
    centred = embeddings.numpy() - means[labels]
    covariance = centred.T @ centred / 201
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 3 * np.eye(3)
    apart = centred[5]
    wanted = np.sqrt(apart @ np.linalg.inv(shrunk) @ apart)
    one = mahalanobis(embeddings[5:6], found["means"][:1], found["precision"])
    assert one.item() == pytest.approx(wanted, rel=1e-4)
    inside = (
        mahalanobis(embeddings, found["means"][labels], found["precision"]) <= found["distance"]
    )
    assert inside.float().mean().item() == pytest.approx(0.99, abs=0.005)


def test_fewer_images_than_features_and_a_class_without_any() -> None:
    found = statistics_of(torch.randn(4, 50), torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
    assert torch.isfinite(found["precision"]).all()
    assert found["confidence"][2] == 1
    assert torch.isinf(found["means"][2]).all()
