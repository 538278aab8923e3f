import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curriculum.data.decode import decode
from curriculum.sources.parquet import Parquet
from generators.errors import DataError, SampleRejected


def metadata(names):
    label = {"names": names, "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label}
    return {"huggingface": json.dumps({"info": {"features": features}})}


@pytest.fixture
def write(tmp_path, image_bytes):
    def make(name, labels, start=0, names=None, group=2):
        cells = [{"bytes": image_bytes(start + row), "path": None} for row in range(len(labels))]
        table = pa.table({"image": cells, "label": labels})
        if names:
            table = table.replace_schema_metadata(metadata(names))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path, row_group_size=group)
        return str(path)

    return make


def values(images, rows):
    return [int(decode(images.read(row), 1)[0, 0, 0]) for row in rows]


def test_rows_across_row_groups_and_files_in_any_order(write, tmp_path):
    write("a.parquet", [0, 1, 1, 0, 1], start=10)
    write("b.parquet", [1, 0, 1], start=50)
    images = Parquet(path=str(tmp_path / "*.parquet")).open()
    assert images.labels.tolist() == [0, 1, 1, 0, 1, 1, 0, 1]
    assert images.splits is None
    assert values(images, range(8)) == [10, 11, 12, 13, 14, 50, 51, 52]
    assert values(images, [7, 0, 4, 5, 2]) == [52, 10, 14, 50, 12]
    assert [images.origin(row) for row in (0, 4, 5, 7)] == [
        "a.parquet#0",
        "a.parquet#4",
        "b.parquet#0",
        "b.parquet#2",
    ]


def test_one_row_group_is_kept(write):
    images = Parquet(path=write("a.parquet", [0] * 9, group=3)).open()
    values(images, [0, 8, 4])
    assert list(images.cached) == [(0, 1)]
    assert len(images.cached[0, 1]) == 3


def test_class_names_of_the_metadata(write):
    path = write("a.parquet", [0, 1], names=["cat", "dog"])
    assert Parquet(path=path).open().class_names == ("cat", "dog")
    assert Parquet(path=path, classes=("x", "y")).open().class_names == ("x", "y")


def test_files_that_name_different_classes(write):
    paths = write("a.parquet", [0, 1], names=["a", "b"]), write("b.parquet", [0], names=["b", "a"])
    with pytest.raises(DataError, match=r"a.parquet, b.parquet name different classes"):
        Parquet(path=paths).open()


def test_files_of_splits_and_equal_names(write):
    train, test = write("train/0.parquet", [0, 1]), write("test/0.parquet", [1], start=9)
    images = Parquet(path=train, test=test).open()
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "train", "test"]
    assert images.origin(2) == "test/0.parquet#0"
    assert values(images, [2]) == [9]


def test_names_as_labels_and_other_columns(tmp_path, image_bytes):
    kind = pa.dictionary(pa.int8(), pa.string())
    table = pa.table(
        {"species": pa.array(["b", "a"], kind), "photo": [image_bytes(3), image_bytes(4)]}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    spec = {"path": str(tmp_path / "x.parquet"), "image_column": "photo", "label_column": "species"}
    images = Parquet(**spec).open()
    assert images.class_names == ("a", "b")
    assert images.labels.tolist() == [1, 0]
    assert values(images, [0, 1]) == [3, 4]


def test_cells_with_paths_and_empty_cells(tmp_path, write_images):
    write_images({"images/1.png": 77})
    cells = [{"bytes": None, "path": "images/1.png"}, {"bytes": None, "path": "none.png"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([*cells, {"bytes": None, "path": None}, None], kind)
    pq.write_table(pa.table({"image": image, "label": [0, 0, 0, 0]}), tmp_path / "x.parquet")
    images = Parquet(path=str(tmp_path / "x.parquet")).open()
    assert values(images, [0]) == [77]
    for row in (1, 2, 3):
        with pytest.raises(SampleRejected, match="missing_file"):
            images.read(row)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_column": "img"}, "no column 'img'; expected one of 'image', 'label'"),
        ({"label_column": "lable"}, r"no column 'lable'.*did you mean 'label'"),
        ({"image_column": "label"}, "column 'label' is int64; expected a struct of bytes and path"),
        ({"label_column": "image"}, "column 'image' is struct.*expected integers or names"),
        ({"classes": ("a",)}, r"a.parquet#1: label 1 lies outside the 1 classes"),
        ({"classes": ("a", "b", "c")}, "class 'c' has no images"),
    ],
)
def test_files_that_are_refused(write, params, message):
    with pytest.raises(DataError, match=message):
        Parquet(path=write("a.parquet", [0, 1]), **params).open()


def test_missing_damaged_and_unlabelled_files(write, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Parquet(path=str(tmp_path / "none.parquet")).open()
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no, not really PAR1")
    with pytest.raises(DataError, match=r"x.parquet: cannot be read as Parquet"):
        Parquet(path=str(tmp_path / "x.parquet")).open()
    with pytest.raises(DataError, match=r"a.parquet#1: label None"):
        Parquet(path=write("a.parquet", [0, None])).open()


def test_a_file_that_is_damaged_or_vanishes_later(write, tmp_path):
    path = tmp_path / "a.parquet"
    images = Parquet(path=write("a.parquet", [0, 0])).open()
    data = path.read_bytes()
    path.write_bytes(b"\0" * len(data))
    with pytest.raises(SampleRejected, match=r"unreadable_image: a.parquet, row group 0"):
        images.read(0)
    path.unlink()
    with pytest.raises(SampleRejected, match="missing_file"):
        images.read(0)


def test_real_cifar_10(cifar_parquet):
    classes = cifar_parquet.parent / "classes.txt"
    images = Parquet(path=str(cifar_parquet), classes=str(classes)).open()
    assert images.class_names[:2] == ("airplane", "automobile")
    assert np.bincount(images.labels).tolist() == [5000] * 10
    assert images.origin(49_999) == "train.parquet#49999"
    assert decode(images.read(49_999), 3).shape == (32, 32, 3)
