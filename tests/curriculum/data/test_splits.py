import numpy as np
import pytest

from curriculum.data.splits import shot_split, stratified_split
from generators.errors import ConfigError, DataError


def counts(labels, splits):
    return {
        int(label): tuple(
            int(((labels == label) & (splits == name)).sum()) for name in ("train", "val", "test")
        )
        for label in np.unique(labels)
    }


def test_shares_are_kept_in_every_class():
    labels = np.repeat(np.arange(3), [100, 50, 10])
    splits = stratified_split(labels, {"val": 0.1, "test": 0.2}, seed=0)
    assert counts(labels, splits) == {0: (70, 10, 20), 1: (35, 5, 10), 2: (7, 1, 2)}


def test_rare_classes_are_in_every_split():
    labels = np.repeat(np.arange(3), [3, 4, 5])
    splits = stratified_split(labels, {"val": 0.1, "test": 0.1}, seed=3)
    assert counts(labels, splits) == {0: (1, 1, 1), 1: (2, 1, 1), 2: (3, 1, 1)}


def test_training_keeps_an_image_whatever_the_shares():
    labels = np.zeros(3, np.int64)
    splits = stratified_split(labels, {"val": 0.45, "test": 0.5}, seed=0)
    assert counts(labels, splits) == {0: (1, 1, 1)}


def test_half_an_image_is_rounded_up_whatever_the_float():
    labels = np.zeros(15, np.int64)
    assert (stratified_split(labels, {"test": 0.3}, 0) == "test").sum() == 5  # 4.5
    labels = np.zeros(45, np.int64)
    assert (stratified_split(labels, {"test": 0.7}, 0) == "test").sum() == 32  # 31.499999999999996


def test_same_seed_same_split_other_seed_other_split():
    labels = np.repeat(np.arange(4), 50)
    first = stratified_split(labels, {"test": 0.5}, seed=1)
    np.testing.assert_array_equal(first, stratified_split(labels, {"test": 0.5}, seed=1))
    assert (first != stratified_split(labels, {"test": 0.5}, seed=2)).any()
    assert (first != stratified_split(labels, {"test": 0.5}, seed=-1)).any()


def test_classes_do_not_share_a_shuffle():
    labels = np.repeat(np.arange(2), 50)
    splits = stratified_split(labels, {"test": 0.5}, seed=1)
    assert (splits[:50] != splits[50:]).any()


def test_another_class_changes_nothing_for_the_others():
    labels = np.random.default_rng(0).integers(0, 5, 300)
    splits = stratified_split(labels, {"val": 0.2, "test": 0.2}, seed=9)
    kept = labels != 3
    fewer = stratified_split(labels[kept], {"val": 0.2, "test": 0.2}, seed=9)
    np.testing.assert_array_equal(fewer, splits[kept])


def test_a_share_of_zero_asks_for_no_split():
    labels = np.repeat(np.arange(2), 10)
    assert set(stratified_split(labels, {"val": 0.0, "test": 0.5}, 0)) == {"train", "test"}


def test_too_few_images_name_the_class():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(DataError, match=r"class 1 has 1 image.*train, test"):
        stratified_split(labels, {"test": 0.5}, 0)
    with pytest.raises(DataError, match="class 'dog' has 1 image"):
        stratified_split(labels, {"test": 0.5}, 0, class_names=("cat", "dog"))


def test_one_image_data_set_is_refused():
    with pytest.raises(DataError, match="too few"):
        stratified_split(np.zeros(1, np.int64), {"test": 0.2}, 0)


@pytest.mark.parametrize("fractions", [{"test": 1.0}, {"val": 0.5, "test": 0.5}, {"val": -0.1}])
def test_impossible_shares_are_refused(fractions):
    with pytest.raises(ConfigError, match="fractions"):
        stratified_split(np.zeros(10, np.int64), fractions, 0)


def test_shots_at_their_boundaries():
    shots = shot_split(np.array([101, 100, 20, 19, 0]))
    assert shots.tolist() == ["many", "medium", "medium", "few", "few"]
    assert shot_split(np.array([11, 10, 4]), 10, 5).tolist() == ["many", "medium", "few"]
