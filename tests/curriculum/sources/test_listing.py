import pytest

from curriculum.data.decode import decode
from curriculum.sources.listing import Listing
from generators.errors import DataError, SampleRejected


@pytest.fixture
def root(write_images):
    return write_images({"a/1.png": 1, "a/2.png": 2, "b/my photo 3.png": 3, "b/4.png": 4})


def write(root, name, text):
    (root / name).write_bytes(text.encode())
    return str(root / name)


def values(images):
    return [int(decode(images.read(row), 1)[0, 0, 0]) for row in range(len(images.labels))]


def test_lines_of_path_and_index(root):
    path = write(root, "all.txt", "b/4.png 1\na/1.png 0\n\nb/my photo 3.png\t1\r\n")
    images = Listing(path=path).open()
    assert images.labels.tolist() == [1, 0, 1]
    assert images.class_names == ("0", "1")
    assert values(images) == [4, 1, 3]
    assert images.origin(2) == "b/my photo 3.png"
    assert images.splits is None


def test_lists_of_splits_beside_an_image_root(root, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    images = Listing(
        path=write(lists, "LT_train.txt", "a/1.png 0\nb/4.png 1\n"),
        val=write(lists, "LT_val.txt", "a/2.png 0\n"),
        test=write(lists, "LT_test.txt", "b/my photo 3.png 1\n"),
        root=str(root),
        classes=("ape", "bee"),
    ).open()
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "train", "val", "test"]
    assert images.class_names == ("ape", "bee")
    assert values(images) == [1, 4, 2, 3]


def test_csv_with_named_columns(root):
    rows = ["id,species, file ,part", "7,bee,a/1.png,train", "8,ape,a/2.png,Validation"]
    text = "\ufeff" + "\n".join([*rows, "9,ape,b/4.png,train"])
    spec = {"path": write(root, "x.csv", text), "path_column": "file", "label_column": "species"}
    images = Listing(**spec, split_column="part").open()
    assert images.class_names == ("ape", "bee")
    assert images.labels.tolist() == [1, 0, 0]
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "val", "train"]
    assert Listing(**spec).open().splits is None


def test_quoted_cells_tabs_and_a_split_column_of_one_split(root):
    path = write(root, "x.tsv", 'path\tlabel\tsplit\n"a/1.png"\tcat, tabby\ttrain\n')
    images = Listing(path=path, split_column="split").open()
    assert images.class_names == ("cat, tabby",)
    assert images.splits is None


def test_classes_from_a_file(root):
    path = write(root, "x.txt", "a/1.png zebra\nb/4.png ape\n")
    classes = write(root, "classes.txt", "zebra\nape\n")
    assert Listing(path=path, classes=classes).open().labels.tolist() == [0, 1]


def test_a_missing_image_is_a_rejected_row(root):
    images = Listing(path=write(root, "x.txt", "a/1.png 0\na/none.png 0\n")).open()
    with pytest.raises(SampleRejected, match="missing_file"):
        images.read(1)


@pytest.mark.parametrize(
    ("name", "text", "params", "message"),
    [
        (
            "x.csv",
            "file,label\na/1.png,0\n",
            {},
            "no column 'path'; expected one of 'file', 'label'",
        ),
        ("x.csv", "path,lable\na/1.png,0\n", {}, r"no column 'label'.*did you mean 'lable'"),
        ("x.csv", "path,label\na/1.png,0\n", {"split_column": "part"}, "no column 'part'"),
        (
            "x.csv",
            "path,label\na/1.png,0\na/2.png\n",
            {},
            "x.csv, line 3: nothing in column 'label'",
        ),
        (
            "x.csv",
            "path,label,s\na/1.png,0,trian\n",
            {"split_column": "s"},
            "line 2: split 'trian'",
        ),
        ("x.txt", "a/1.png 0\na/2.png\n", {}, r"x.txt, line 2: 'a/2.png'; expected a path and"),
        (
            "x.txt",
            "a/1.png 0\na/1.png 1\n",
            {},
            r"line 2: 'a/1.png' is listed already in x.txt, line 1",
        ),
        (
            "x.txt",
            "a/1.png 0\na/2.png 2\n",
            {"classes": ("a", "b")},
            r"line 2: label 2 lies outside",
        ),
        ("x.txt", "a/1.png cat\nb/4.png dog\n", {"classes": ("cat",)}, "line 2: class 'dog'"),
        ("x.txt", "a/1.png 0\n", {"classes": ("a", "b")}, "class 'b' has no images"),
        ("x.txt", "1.png 0\n2.png 0\n", {}, r"root: none of the first 2 listed images.*'1.png'"),
        ("x.txt", "\n", {}, "no images"),
        ("x.txt", "a/1.png 0\n", {"root": "/nowhere/at/all"}, "root: .* no such folder"),
        ("x.txt", "a/1.png 0\n", {"split_column": "s"}, "is no .csv or .tsv file"),
        ("x.csv", "p,l\n", {"split_column": "s", "val": "v.csv"}, "either a split column or"),
    ],
)
def test_lists_that_are_refused(root, name, text, params, message):
    with pytest.raises(DataError, match=message):
        Listing(path=write(root, name, text), **params).open()


def test_a_class_of_val_that_is_not_in_train(root):
    train, val = write(root, "t.txt", "a/1.png a\n"), write(root, "v.txt", "b/4.png b\n")
    with pytest.raises(DataError, match="class 'b' is in the val split"):
        Listing(path=train, val=val).open()


def test_lists_that_cannot_be_read(root):
    with pytest.raises(DataError, match=r"cannot read the list .*none.txt"):
        Listing(path=str(root / "none.txt")).open()
    (root / "x.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="cannot read the list"):
        Listing(path=str(root / "x.txt")).open()
