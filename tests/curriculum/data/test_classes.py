import numpy as np
import pytest

from curriculum.data.classes import label_table, read_class_names, rows_by_class
from generators.errors import DataError


def table(values, names=None, splits=None):
    splits = None if splits is None else np.array(splits)
    return label_table(values, names, splits, lambda row: f"row {row}")


def test_names_are_sorted_and_numbered():
    found = table(["dog", "cat", "dog"])
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.labels.dtype == np.int64


def test_integers_are_indices_whatever_their_type():
    for values in ([1, 0, 2], ["1", "0", "2"], list(np.array([1, 0, 2]))):
        found = table(values)
        assert found.class_names == ("0", "1", "2")
        assert found.labels.tolist() == [1, 0, 2]


def test_ten_follows_nine():
    assert table([str(label) for label in range(11)]).class_names[10] == "10"


def test_given_names_decide_the_order():
    assert table(["dog", "cat"], ("dog", "cat")).labels.tolist() == [0, 1]
    assert table([1, 0], ("dog", "cat")).labels.tolist() == [1, 0]


def test_a_name_that_looks_like_an_integer_is_a_name():
    assert table(["1", "2", "3"], ("3", "2", "1")).labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 3], ("a", "b"), r"row 1: label 3 lies outside the 2 classes, 0 to 1"),
        ([0, -1], None, r"row 1: label -1 lies outside .*-1 often means"),
        (["a", "cta"], ("a", "cat"), r"row 1: class 'cta'.*did you mean 'cat'"),
        (["a", ""], None, r"row 1: label ''"),
        ([0, None], None, r"row 1: label None"),
        ([0, 1.5], None, r"row 1: label 1.5"),
        ([1, 2], None, r"row 0: label 1, but no image has label 0"),
        ([0, 10**12], None, r"row 1: label 1000000000000, but no image has label 1"),
        ([0, 0], ("a", "b"), r"class 'b' has no images"),
        ([], None, "no images"),
    ],
)
def test_labels_that_are_refused(values, names, message):
    with pytest.raises(DataError, match=message):
        table(values, names)


def test_many_class_names_are_not_all_listed():
    names = tuple(f"class{i}" for i in range(1000))
    with pytest.raises(DataError, match="one of the 1000 classes") as caught:
        table(["other"], names)
    assert len(str(caught.value)) < 200


def test_every_class_of_val_and_test_must_be_in_train():
    with pytest.raises(DataError, match="class 'b' is in the val split but has no image in train"):
        table(["a", "a", "b"], None, ["train", "test", "val"])
    with pytest.raises(DataError, match="no training images"):
        table(["a"], None, ["test"])
    assert table(["a", "b", "a"], None, ["train", "train", "test"]).splits is not None


def test_class_names_from_files_and_lists(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffcat\r\n\r\n polar bear \n".encode())
    assert read_class_names(str(path)) == ("cat", "polar bear")
    assert read_class_names(("a", "b")) == ("a", "b")
    assert read_class_names(None) is None


def test_class_names_that_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none.txt"):
        read_class_names(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="'a' is named twice"):
        read_class_names(("a", "b", "a"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="no class names"):
        read_class_names(str(tmp_path / "empty.txt"))


def test_rows_by_class():
    rows = rows_by_class(np.array([2, 0, 2, 5]))
    assert {label: part.tolist() for label, part in rows.items()} == {0: [1], 2: [0, 2], 5: [3]}
    assert rows_by_class(np.zeros(0, np.int64)) == {}
