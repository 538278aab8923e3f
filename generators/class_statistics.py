"""What a classifier makes of the real images of each class: the reference of some judges."""

import torch
from torch import Tensor

QUANTILE = 0.99
SHRINKAGE = 0.1
"""Share of a multiple of the identity in the pooled covariance (Ledoit and Wolf 2004): with fewer
images than features it could not be inverted."""


def statistics_of(embeddings: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Statistics from embeddings (N, D), logits (N, C) and labels (N,) of real images.

    The images are those that the network was trained on: it is surer of them, and they lie closer
    together, than new ones of the same classes would.

    Returns:
        `confidence` (C,), mean probability of its own class (Northcutt et al. 2021,
        arXiv:1911.00068, Eq. 2); `means` (C, D); `precision` (D, D), inverse of the covariance
        within classes, pooled, for rare classes have too few images for one of their own;
        `distance` (), the 99 % quantile of the images' Mahalanobis distances to their class's mean.
        A class without images has confidence 1 and an infinite mean: nothing is like it.
    """
    num_classes = logits.shape[1]
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    counts = torch.bincount(labels, minlength=num_classes)
    totals = torch.zeros(num_classes).index_add_(0, labels, own)
    sums = torch.zeros(num_classes, embeddings.shape[1]).index_add_(0, labels, embeddings)
    means = sums / counts.clamp_min(1)[:, None]
    centred = (embeddings - means[labels]).double()
    covariance = centred.T @ centred / max(1, len(labels) - int((counts > 0).sum()))
    size = len(covariance)
    scale = covariance.diagonal().mean().clamp_min(1e-8)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * scale * torch.eye(size, dtype=torch.double)
    precision = torch.linalg.inv(shrunk).float()
    absent = counts == 0
    distances = mahalanobis(embeddings, means[labels], precision)
    return {
        "confidence": torch.where(absent, 1.0, totals / counts.clamp_min(1)),
        "means": means.masked_fill(absent[:, None], torch.inf),
        "precision": precision,
        "distance": distances.quantile(QUANTILE),
    }


def mahalanobis(embeddings: Tensor, means: Tensor, precision: Tensor) -> Tensor:
    """(N,) distances of embeddings (N, D) to means (N, D)."""
    apart = embeddings - means
    return ((apart @ precision) * apart).sum(1).clamp_min(0).sqrt()
