import json

import pytest
import webdataset

from curriculum.data.decode import decode
from curriculum.sources.webdataset import Webdataset
from generators.errors import DataError, SampleRejected


@pytest.fixture
def write(tmp_path):
    """Writes a tar with the library's own writer."""

    def make(name, samples):
        with webdataset.TarWriter(str(tmp_path / name)) as tar:
            for sample in samples:
                tar.write(sample)
        return str(tmp_path / name)

    return make


@pytest.fixture
def sample(image_bytes):
    def make(key, value, **members):
        return {"__key__": key, "png": image_bytes(value), **members}

    return make


def values(images, rows):
    return [int(decode(images.read(row), 1)[0, 0, 0]) for row in rows]


def test_images_and_labels_of_several_tars(write, sample, tmp_path):
    write("t-000.tar", [sample("b", 20, cls=1), sample("a", 10, cls=0)])
    write("t-001.tar", [sample("dir/c", 30, cls=1)])
    images = Webdataset(path=str(tmp_path / "t-{000..001}.tar")).open()
    assert images.labels.tolist() == [1, 0, 1]
    assert [images.origin(row) for row in range(3)] == [
        "t-000.tar#b",
        "t-000.tar#a",
        "t-001.tar#dir/c",
    ]
    assert values(images, [2, 0, 1]) == [30, 20, 10]
    assert images.splits is None
    assert images.class_names == ("0", "1")


def test_agrees_with_the_library(write, sample):
    path = write("t.tar", [sample(f"k{row:02d}", row, cls=row % 3) for row in range(12)])
    images = Webdataset(path=path).open()
    expected = list(webdataset.WebDataset(path, shardshuffle=False))
    assert [images.read(row) for row in range(12)] == [item["png"] for item in expected]
    assert images.labels.tolist() == [int(item["cls"]) for item in expected]


def test_official_splits(write, sample):
    train, val = write("a.tar", [sample("a", 1, cls=0)]), write("b.tar", [sample("a", 2, cls=0)])
    images = Webdataset(path=train, val=val).open()
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "val"]
    assert images.origin(0) != images.origin(1)


def test_class_names_beside_the_tars(write, sample, tmp_path):
    path = write("t.tar", [sample("a", 1, cls=1), sample("b", 1, cls=0)])
    (tmp_path / "_info.json").write_text(json.dumps({"class_names": ["cat", "dog"], "splits": {}}))
    assert Webdataset(path=path).open().class_names == ("cat", "dog")
    assert Webdataset(path=path, classes=("x", "y")).open().class_names == ("x", "y")
    (tmp_path / "_info.json").write_text("{broken")
    with pytest.raises(DataError, match=r"_info.json: cannot be read as JSON"):
        Webdataset(path=path).open()


def test_labels_in_json(write, sample):
    path = write(
        "t.tar",
        [
            sample("a", 1, json={"label": 0, "name": "ant"}),
            sample("b", 1, json={"label": 1, "name": "bee"}),
        ],
    )
    assert Webdataset(path=path, label_field="label").open().labels.tolist() == [0, 1]
    images = Webdataset(path=path, label_field="name", classes=("bee", "ant")).open()
    assert images.labels.tolist() == [1, 0]


def test_label_in_a_text_member(write, sample):
    path = write("t.tar", [sample("a", 1, txt="ant"), sample("b", 1, txt="bee")])
    assert Webdataset(path=path, label_member="txt").open().class_names == ("ant", "bee")


def test_one_of_several_images(write, image_bytes):
    item = {
        "__key__": "a",
        "left.png": image_bytes(5),
        "jpg": image_bytes(6, "JPEG"),
        "png": image_bytes(7),
        "cls": 0,
    }
    path = write("t.tar", [item])
    with pytest.raises(DataError, match=r"'a' has several images \(jpg, png\)"):
        Webdataset(path=path).open()
    assert values(Webdataset(path=path, image_member="left.png").open(), [0]) == [5]


def test_a_sample_without_an_image_is_a_rejected_row(write, sample):
    path = write("t.tar", [sample("a", 1, cls=0), {"__key__": "b", "cls": 0}])
    images = Webdataset(path=path).open()
    assert images.labels.tolist() == [0, 0]
    with pytest.raises(SampleRejected, match=r"missing_file: t.tar#b has no image"):
        images.read(1)


def test_a_tar_that_shrank_or_vanished(write, sample, tmp_path):
    images = Webdataset(path=write("t.tar", [sample("a", 1, cls=0)])).open()
    path = tmp_path / "t.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(SampleRejected, match="unreadable_image"):
        images.read(0)
    path.unlink()
    with pytest.raises(SampleRejected, match="missing_file"):
        images.read(0)


@pytest.mark.parametrize(
    ("members", "params", "message"),
    [
        ({"txt": "1"}, {}, r"sample 'a' has no 'cls'; one of 'png', 'txt'"),
        ({"cls": 0}, {"label_field": "label"}, "sample 'a' has no 'json'"),
        ({"json": {"y": 1}}, {"label_field": "label"}, r"no 'label'; it has one of 'y'"),
        ({"json": [1]}, {"label_field": "label"}, "no 'label'; it has no fields"),
        ({"json": {"label": 0.5}}, {"label_field": "label"}, r"t.tar#a: label 0.5"),
        ({"cls": 5}, {"classes": ("a", "b")}, r"t.tar#a: label 5 lies outside the 2 classes"),
    ],
)
def test_labels_that_are_refused(write, sample, members, params, message):
    spec = Webdataset(path=write("t.tar", [sample("a", 1, **members)]), **params)
    with pytest.raises(DataError, match=message):
        spec.open()


def test_missing_files_and_no_tars(write, sample, tmp_path):
    path = write("t.tar", [sample("a", 1, cls=0)])
    with pytest.raises(DataError, match="no such file"):
        Webdataset(path=path + "x").open()
    (tmp_path / "x.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match="cannot be read as a tar"):
        Webdataset(path=str(tmp_path / "x.tar")).open()


def test_labels_that_are_no_text_or_no_json(write, sample):
    path = write("t.tar", [{**sample("a", 1), "bin": b"\xff\xfe"}])
    with pytest.raises(DataError, match="label of sample 'a' cannot be read"):
        Webdataset(path=path, label_member="bin").open()
    path = write("u.tar", [{**sample("a", 1), "json": b"{broken"}])
    with pytest.raises(DataError, match="label of sample 'a' cannot be read"):
        Webdataset(path=path, label_field="label").open()
