import numpy as np
import pytest

from curriculum.data.long_tail import class_counts, long_tail_subset
from curriculum.data.splits import stratified_split
from generators.errors import DataError


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation(np.repeat(np.arange(4), 100))


def test_counts_are_exact_and_no_image_twice(labels):
    counts = np.array([100, 40, 7, 1])
    kept = long_tail_subset(labels, counts, seed=0)
    assert kept.dtype == np.int64
    assert len(set(kept.tolist())) == len(kept) == 148
    np.testing.assert_array_equal(class_counts(labels[kept], 4), counts)


def test_seed_decides(labels):
    counts = np.array([50, 50, 50, 50])
    first = long_tail_subset(labels, counts, seed=5)
    np.testing.assert_array_equal(first, long_tail_subset(labels, counts, seed=5))
    assert set(first.tolist()) != set(long_tail_subset(labels, counts, seed=6).tolist())


def test_smaller_counts_keep_a_part_of_larger_ones(labels):
    large = long_tail_subset(labels, np.array([50, 50, 50, 50]), seed=5)
    small = long_tail_subset(labels, np.array([50, 20, 5, 0]), seed=5)
    assert set(small.tolist()) <= set(large.tolist())


def test_is_independent_of_the_split_of_the_same_seed(labels):
    """With a shared shuffle the images kept would be exactly the first ones of the split."""
    kept = long_tail_subset(labels, np.array([50, 50, 50, 50]), seed=0)
    test = np.flatnonzero(stratified_split(labels, {"test": 0.5}, seed=0) == "test")
    assert 60 < len(set(kept.tolist()) & set(test.tolist())) < 140


def test_too_few_images_name_the_class(labels):
    with pytest.raises(DataError, match=r"class 2 has 100 training images.*keeps 101"):
        long_tail_subset(labels, np.array([1, 1, 101, 1]), 0)
    with pytest.raises(DataError, match="class 'c' has 100"):
        long_tail_subset(labels, np.array([1, 1, 101, 1]), 0, class_names="abcd")
    with pytest.raises(DataError, match="class 4 has 0"):
        long_tail_subset(labels, np.array([1, 1, 1, 1, 1]), 0)
    with pytest.raises(DataError, match="3 classes, the data 4"):
        long_tail_subset(labels, np.array([1, 1, 1]), 0)


def test_class_counts_include_empty_classes():
    assert class_counts(np.array([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
