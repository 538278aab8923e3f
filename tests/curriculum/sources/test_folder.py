import os

import pytest

from curriculum.data.decode import decode
from curriculum.sources.folder import Folder
from generators.errors import DataError, SampleRejected


def open_folder(path):
    return Folder(path=str(path)).open()


def origins(images):
    return [images.origin(index) for index in range(len(images.labels))]


def test_classes_are_folders(write_images):
    root = write_images({"dog/2.png": 20, "cat/9.jpg": 90, "dog/1.JPEG": 10})
    images = open_folder(root)
    assert images.class_names == ("cat", "dog")
    assert origins(images) == ["cat/9.jpg", "dog/1.JPEG", "dog/2.png"]
    assert images.labels.tolist() == [0, 1, 1]
    assert images.splits is None
    assert [decode(images.read(row), 1)[0, 0, 0] for row in range(3)] == [90, 10, 20]


def test_order_does_not_depend_on_the_file_system(write_images, tmp_path):
    names = [f"{name}/{number}.png" for name in ("b", "a", "B") for number in (10, 9, 1)]
    first = origins(open_folder(write_images(dict.fromkeys(names, 1))))
    assert first == sorted(names)
    for name in names[::-1]:
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(data)
    assert origins(open_folder(tmp_path)) == first


def test_nested_classes(write_images):
    root = write_images({"animals/cat/1.png": 1, "animals/dog/1.png": 1, "plants/1.png": 1})
    assert open_folder(root).class_names == ("animals/cat", "animals/dog", "plants")


def test_a_class_beside_its_own_subclasses(write_images):
    root = write_images({"cat/1.png": 1, "cat/tabby/1.png": 1})
    images = open_folder(root)
    assert images.class_names == ("cat", "cat/tabby")
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_official_splits(write_images, val):
    root = write_images(
        {"train/a/1.png": 1, "train/b/x/1.png": 1, f"{val}/a/2.png": 2, "test/a/3.png": 3}
    )
    images = open_folder(root)
    assert images.class_names == ("a", "b/x")
    assert images.splits is not None
    found = dict(zip(origins(images), images.splits.tolist(), strict=True))
    assert found == {
        "train/a/1.png": "train",
        "train/b/x/1.png": "train",
        f"{val}/a/2.png": "val",
        "test/a/3.png": "test",
    }
    labels = dict(zip(origins(images), images.labels.tolist(), strict=True))
    assert labels[f"{val}/a/2.png"] == 0


def test_only_a_train_folder_has_no_official_splits(write_images):
    images = open_folder(write_images({"train/a/1.png": 1, "train/b/1.png": 1}))
    assert images.class_names == ("a", "b")
    assert images.splits is None


def test_classes_called_like_splits(write_images):
    images = open_folder(write_images({"train/1.png": 1, "bus/1.png": 1, "test/1.png": 1}))
    assert images.class_names == ("bus", "test", "train")


def test_files_that_are_no_images_are_left_out(write_images):
    root = write_images({"a/1.png": 1, "b/1.png": 1})
    (root / "README.md").write_text("x")
    (root / "a" / "labels.csv").write_text("x")
    (root / "a" / "._1.png").write_text("x")
    (root / ".cache").mkdir()
    assert origins(open_folder(root)) == ["a/1.png", "b/1.png"]


def test_images_no_decoder_knows_stay_rows(write_images):
    root = write_images({"a/1.png": 1})
    (root / "a" / "2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    images = open_folder(root)
    assert origins(images) == ["a/1.png", "a/2.heic"]
    with pytest.raises(SampleRejected, match="unreadable_image"):
        decode(images.read(1), 3)


def test_a_file_that_vanished(write_images):
    images = open_folder(write_images({"a/1.png": 1, "a/2.png": 1}))
    (write_images({}) / "a" / "1.png").unlink()
    with pytest.raises(SampleRejected, match="missing_file"):
        images.read(0)


def test_links_are_followed(write_images, tmp_path):
    write_images({"store/x/1.png": 7, "data/b/1.png": 1})
    (tmp_path / "data" / "a").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "data" / "b" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    images = open_folder(tmp_path / "data")
    assert origins(images) == ["a/1.png", "b/1.png", "b/broken.png"]
    with pytest.raises(SampleRejected, match="missing_file"):
        images.read(2)


def test_links_in_a_circle_are_refused(write_images):
    root = write_images({"a/1.png": 1})
    (root / "a" / "again").symlink_to(root)
    with pytest.raises(DataError, match="links to a folder above"):
        open_folder(root)


def test_names_of_any_bytes(write_images):
    root = write_images({"a/1.png": 1})
    with open(os.fsencode(root) + b"/a/caf\xe9.png", "wb") as stream:
        stream.write((root / "a" / "1.png").read_bytes())
    images = open_folder(root)
    assert images.origin(1).encode() == b"a/caf\\xe9.png"
    assert decode(images.read(1), 1)[0, 0, 0] == 1


@pytest.mark.parametrize(
    ("files", "folder", "message"),
    [
        ({"a/1.png": 1}, "b", r"class folder 'b' has no images$"),
        ({"train/a/1.png": 1, "test/a/1.png": 1}, "test/b", "class folder 'test/b' has no images"),
        ({"a/1.png": 1, "2.png": 1}, None, r"image '2.png' in .* lies in no class folder"),
        ({"train/a/1.png": 1, "train/2.png": 1, "val/a/1.png": 1}, None, r"'train/2.png'"),
        (
            {"train/a/1.png": 1, "val/b/1.png": 1},
            None,
            "class 'b' is in the val split but has no image in train",
        ),
        ({"val/a/1.png": 1, "test/a/1.png": 1}, None, "no 'train' folder"),
        (
            {"train/a/1.png": 1, "val/a/1.png": 1, "valid/a/1.png": 1},
            None,
            "two folders for one split: 'train', 'val', 'valid'",
        ),
        (
            {"train/a/1.png": 1, "val/a/1.png": 1, "more/a/1.png": 1},
            None,
            "split folders 'train', 'val' beside 'more'",
        ),
    ],
)
def test_folders_that_are_refused(write_images, files, folder, message):
    root = write_images(files)
    if folder:
        (root / folder).mkdir()
    with pytest.raises(DataError, match=message):
        open_folder(root)


def test_a_class_folder_of_other_files_names_one(write_images):
    root = write_images({"a/1.png": 1})
    (root / "b").mkdir()
    (root / "b" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"'b' has no images, only other files like 'notes.txt'"):
        open_folder(root)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_folder(tmp_path / "none")
    with pytest.raises(DataError, match="no images in"):
        open_folder(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file, not a folder"):
        open_folder(tmp_path / "file")
