"""How two sets of images differ, by features (N, D) of a network that looked at both."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import pairwise_distances

from benchmarks.cifar_parts.quality import frechet

Features = NDArray[np.float64]
NEIGHBOURS = 5


def kernel_distance(real: Features, made: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018), times 1000."""

    def kernel(one: Features, other: Features) -> Features:
        found: Features = (one @ other.T / one.shape[1] + 1) ** 3
        return found

    def own(one: Features) -> float:
        found, count = kernel(one, one), len(one)
        return float((found.sum() - np.trace(found)) / (count * (count - 1)))

    return 1000 * (own(real) + own(made) - 2 * float(kernel(real, made).mean()))


def coverage(real: Features, made: Features) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""
    between = pairwise_distances(real, made)
    real_radius, made_radius = (_radius(each) for each in (real, made))
    inside = between < real_radius[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between < made_radius[None]).any(1).mean()),
        "density": float(inside.sum(0).mean() / NEIGHBOURS),
        "coverage": float((between.min(1) < real_radius).mean()),
    }


def _radius(points: Features) -> Features:
    """Distance of each point to its k-th neighbour among the others."""
    found: Features = np.sort(pairwise_distances(points), axis=1)[:, NEIGHBOURS]
    return found


def diversity(made: Features, labels: NDArray[np.int64]) -> float:
    """Mean cosine distance between images of a class, mean over classes."""
    found = []
    for label in np.unique(labels):
        mine = made[labels == label]
        apart = pairwise_distances(mine, metric="cosine")
        found.append(apart.sum() / (len(mine) * (len(mine) - 1)))
    return float(np.mean(found))


def similarity(made: Features, sources: Features) -> float:
    """Mean cosine of images and what they were made from."""
    norms = np.linalg.norm(made, axis=1) * np.linalg.norm(sources, axis=1)
    return float(((made * sources).sum(1) / norms).mean())


__all__ = ["coverage", "diversity", "frechet", "kernel_distance", "similarity"]
