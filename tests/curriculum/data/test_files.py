from pathlib import Path

import pytest

from curriculum.data.files import (
    find_files,
    short_names,
    split_column,
    split_files,
)
from generators.errors import DataError, SampleRejected
from generators.places import printable, read_image


@pytest.fixture
def folder(tmp_path):
    for name in ("a-00.tar", "a-01.tar", "a-10.tar", "sub/b.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a-00.tar", ["a-00.tar"]),
        ("a-*.tar", ["a-00.tar", "a-01.tar", "a-10.tar"]),
        ("a-{00..01}.tar", ["a-00.tar", "a-01.tar"]),
        ("{a-10,sub/b}.tar", ["a-10.tar", "sub/b.tar"]),
        ("**/*.tar", ["a-00.tar", "a-01.tar", "a-10.tar", "sub/b.tar"]),
    ],
)
def test_patterns(folder, pattern, expected):
    found = find_files(str(folder / pattern), "path")
    assert [path.relative_to(folder).as_posix() for path in found] == expected


def test_lists_are_sorted_and_without_doubles(folder):
    patterns = (str(folder / "a-1*.tar"), str(folder / "a-{00..00}.tar"), str(folder / "a-*.tar"))
    assert [path.name for path in find_files(patterns, "path")] == [
        "a-00.tar",
        "a-01.tar",
        "a-10.tar",
    ]


def test_a_file_with_brackets_in_its_name(folder):
    path = folder / "odd[1]{x}.tar"
    path.write_bytes(b"")
    assert find_files(str(path), "path") == (path,)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.tar", "path: .*none.tar': no such file"),
        ("a-{00..02}.tar", "path: .*a-02.tar': no such file"),
        ("none-*.tar", "no such file"),
        ("sub", "is a folder"),
        ("a-{00..01.tar", "path: braces"),
    ],
)
def test_patterns_without_files(folder, pattern, message):
    with pytest.raises(DataError, match=message):
        find_files(str(folder / pattern), "path")


def test_no_patterns():
    with pytest.raises(DataError, match="val: no files named"):
        find_files((), "val")


def test_files_of_splits(folder):
    found = split_files(str(folder / "a-0*.tar"), None, str(folder / "sub/b.tar"))
    assert [(split, path.name) for split, path in found] == [
        ("train", "a-00.tar"),
        ("train", "a-01.tar"),
        ("test", "b.tar"),
    ]
    with pytest.raises(DataError, match=r"test: .*a-01.tar' is among the train files"):
        split_files(str(folder / "a-*.tar"), None, str(folder / "a-01.tar"))


def test_split_column():
    column = split_column([("train", 2), ("test", 1)])
    assert column is not None
    assert column.tolist() == ["train", "train", "test"]
    assert split_column([("train", 2), ("train", 1)]) is None


def test_short_names_take_as_much_of_a_path_as_needed():
    assert short_names([Path("/x/a.tar"), Path("/y/b.tar")]) == ("a.tar", "b.tar")
    assert short_names([Path("/x/a.tar"), Path("/y/a.tar")]) == ("x/a.tar", "y/a.tar")
    assert short_names([Path("/r/x/1/a"), Path("/r/y/1/a")]) == ("x/1/a", "y/1/a")


def test_names_of_any_bytes_can_be_encoded():
    assert printable("caf\udce9.png") == "caf\\xe9.png"
    assert printable("café.png") == "café.png"


def test_reading(tmp_path):
    (tmp_path / "x.png").write_bytes(b"abc")
    assert read_image(tmp_path / "x.png") == b"abc"
    for path, reason in [
        (tmp_path / "none.png", "missing_file"),
        (tmp_path / "x.png" / "y.png", "missing_file"),
        (tmp_path, "unreadable_image"),
        (tmp_path / "a\0b.png", "unreadable_image"),
    ]:
        with pytest.raises(SampleRejected) as caught:
            read_image(path)
        assert caught.value.reason == reason
