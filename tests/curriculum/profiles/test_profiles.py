import numpy as np
import pytest

from curriculum.data.splits import shot_split
from generators.errors import ConfigError
from generators.registry import MethodSpec, build, names


def profile(name, **params):
    return build("profile", MethodSpec(name=name, params=params))


def test_cifar_10_lt():
    counts = profile("exponential", imbalance_factor=100).counts(10, 5000)
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


@pytest.mark.parametrize(
    ("factor", "cifar_10", "cifar_100", "smallest", "shots"),
    [
        (100, 12_406, 10_847, 5, (35, 35, 30)),
        (50, 13_996, 12_608, 10, (41, 41, 18)),
        (10, 20_431, 19_573, 50, (69, 31, 0)),
    ],
)
def test_totals_of_the_literature(factor, cifar_10, cifar_100, smallest, shots):
    method = profile("exponential", imbalance_factor=factor)
    assert method.counts(10, 5000).sum() == cifar_10
    counts = method.counts(100, 500)
    assert counts.sum() == cifar_100
    assert counts[-1] == counts.min() == smallest
    split = shot_split(counts)
    assert tuple(int((split == name).sum()) for name in ("many", "medium", "few")) == shots


@pytest.mark.parametrize("factor", [10, 20, 50, 100, 200, 256])
def test_exponential_is_the_published_expression(factor):
    published = [int(500 * (1 / factor) ** (c / (100 - 1.0))) for c in range(100)]
    assert profile("exponential", imbalance_factor=factor).counts(100, 500).tolist() == published


def test_exponential_digits():
    counts = profile("exponential", imbalance_factor=40).counts(10, 80)
    assert counts.tolist() == [80, 53, 35, 23, 15, 10, 6, 4, 3, 2]


def test_one_image_survives_the_float():
    assert int(49 * (1 / 49)) == 0  # the trap
    assert profile("exponential", imbalance_factor=49).counts(3, 49).tolist() == [49, 7, 1]


@pytest.mark.parametrize("name", ["exponential", "step"])
def test_classes_without_images_are_refused(name):
    with pytest.raises(ConfigError, match=r"imbalance_factor: 100.* at most 50"):
        profile(name, imbalance_factor=100).counts(10, 50)


def test_step():
    counts = profile("step", imbalance_factor=100).counts(10, 5000)
    assert counts.tolist() == [5000] * 5 + [50] * 5
    assert profile("step", imbalance_factor=10).counts(5, 500).tolist() == [500] * 2 + [50] * 3
    assert profile("step", imbalance_factor=49).counts(2, 49).tolist() == [49, 1]


def test_pareto_is_close_to_imagenet_lt():
    counts = profile("pareto").counts(1000, 1280)
    assert (counts[0], counts[-1]) == (1280, 5)
    assert counts.sum() == 116_079
    assert abs(counts.sum() / 115_846 - 1) < 0.0025
    split = shot_split(counts)
    found = [int((split == name).sum()) for name in ("many", "medium", "few")]
    assert found == [388, 469, 143]


def test_pareto_counts_are_quantiles():
    """Ratios of distances between counts are those of the quantile function."""
    counts = profile("pareto", alpha=2.0, min_count=1).counts(3, 1_000_001)
    p = np.array([3 - 0.2, 2 - 0.2, 1 - 0.2]) / (3 + 1 - 0.4)
    x = (1 - p) ** (-1 / 2.0) - 1
    assert counts[0] == 1_000_001
    assert counts[-1] == 1
    np.testing.assert_allclose((counts[1] - 1) / 1e6, (x[1] - x[2]) / (x[0] - x[2]), atol=1e-6)


def test_pareto_bounds():
    with pytest.raises(ConfigError, match="min_count: 5 is not allowed; expected at most 4"):
        profile("pareto").counts(10, 4)
    assert profile("pareto", alpha=1e-3).counts(100, 50)[0] == 50


@pytest.mark.parametrize("name", names("profile"))
@pytest.mark.parametrize("num_classes", [1, 2, 7, 100])
def test_law_counts_fall_from_the_maximum_and_stay_positive(name, num_classes):
    params = {} if name == "pareto" else {"imbalance_factor": 10}
    counts = profile(name, **params).counts(num_classes, 200)
    assert counts.dtype == np.int64
    assert counts.shape == (num_classes,)
    assert counts[0] == 200
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= 1


@pytest.mark.parametrize("name", ["exponential", "step"])
def test_imbalance_factor_below_one_is_refused(name):
    with pytest.raises(ConfigError, match="imbalance_factor"):
        profile(name, imbalance_factor=0.01)
