"""Every source reads a URL as it reads the same folder on a disk."""

import csv

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from curriculum.sources.folder import Folder
from curriculum.sources.huggingface import Huggingface
from curriculum.sources.listing import Listing
from curriculum.sources.parquet import Parquet
from curriculum.sources.webdataset import Webdataset
from generators.errors import ConfigError, DataError, SampleRejected
from generators.places import StoreError, place, read_image

IMAGES = {
    "train/cat/1.png": 10,
    "train/cat/odd #1%2F? [x].png": 20,
    "train/red fox/1.png": 30,
    "test/cat/1.png": 40,
    "test/red fox/.hidden/1.png": 0,
    "test/red fox/notes.txt": 0,
    "test/red fox/2.png": 50,
}


def shown():
    return {name: value for name, value in IMAGES.items() if ".hidden" not in name}


def make_data(folder, image_bytes):
    """The same images as class folders, list, Parquet and tars."""
    for name, value in IMAGES.items():
        path = folder / "folders" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(value) if name.endswith(".png") else b"x")
    rows = [(name, name.split("/")[1], value) for name, value in shown().items() if "png" in name]
    with (folder / "folders" / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *((row[0], row[1]) for row in rows)])
    (folder / "classes.txt").write_text("cat\nred fox\n")
    table = pa.table(
        {"image": [image_bytes(value) for *_, value in rows], "label": [row[1] for row in rows]}
    )
    pq.write_table(table, folder / "p-0.parquet", row_group_size=2)
    pq.write_table(table, folder / "p-1.parquet")
    for number in (0, 1):
        with wds.TarWriter(str(folder / f"t-{number}.tar"), mtime=0) as tar:
            for index, (_, name, value) in enumerate(rows):
                tar.write({"__key__": f"k{index}", "png": image_bytes(value), "cls": name})


def sources(root):
    return {
        "folder": Folder(path=f"{root}/folders"),
        "listing": Listing(path=f"{root}/folders/list.csv", classes=f"{root}/classes.txt"),
        "parquet": Parquet(path=f"{root}/p-*.parquet"),
        "webdataset": Webdataset(path=f"{root}/t-{{0..1}}.tar"),
    }


def seen(source):
    images = source.open()
    count = len(images.labels)
    return {
        "names": images.class_names,
        "labels": images.labels.tolist(),
        "splits": None if images.splits is None else images.splits.tolist(),
        "origins": [images.origin(index) for index in range(count)],
        "bytes": [images.read(index) for index in range(count)],
    }


@pytest.fixture
def memory_url(tmp_path, image_bytes):
    """The data in an object store of this process."""
    make_data(tmp_path, image_bytes)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path), "/urls", recursive=True)
    yield "memory://urls"
    files.rm("/urls", recursive=True)


@pytest.mark.parametrize("name", sources(""))
def test_a_url_gives_what_the_folder_gives(tmp_path, memory_url, name):
    on_disk, by_url = seen(sources(tmp_path)[name]), seen(sources(memory_url)[name])
    assert len(on_disk["bytes"]) >= 4
    assert by_url == on_disk  # origins, hence keys of images, included


def test_file_urls_are_paths(tmp_path, image_bytes):
    make_data(tmp_path, image_bytes)
    assert seen(Folder(path=f"file://{tmp_path}/folders")) == seen(
        Folder(path=f"{tmp_path}/folders")
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Folder(path="memory://urls/none"), "no such folder: .* object store"),
        (Folder(path="memory://urls/classes.txt"), "is a file, not a folder"),
        (Webdataset(path="memory://urls/x-*.tar"), "no such file"),
        (Parquet(path="memory://urls/folders"), "is a folder, not a file"),
        (Listing(path="memory://urls/none.csv"), "cannot read the list"),
        (Folder(path="/none/here"), "not on this machine .* every node needs to see it"),
    ],
)
def test_what_is_not_there_is_named(memory_url, source, message):
    with pytest.raises(DataError, match=message):
        source.open()


def test_folders_without_images_are_named_as_on_a_disk(memory_url):
    fsspec.filesystem("memory").pipe_file("/urls/folders/train/dog/readme.txt", b"x")
    with pytest.raises(DataError, match="class folder 'train/dog' has no images"):
        Folder(path=f"{memory_url}/folders").open()


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/x.tar",
        "ssh://host/x",
        "sftp://host/x",
        "github://owner:repo@/x",
        "simplecache::s3://bucket/x",
        "pipe:://echo",
        "s3://AKIAPLANTED:planted-secret@bucket/x",
        "S3://planted-secret@bucket/x",
    ],
)
def test_urls_that_are_refused_are_not_repeated(url):
    with pytest.raises(ConfigError) as caught:
        Webdataset(path=url).open()
    assert "planted" not in str(caught.value).lower()


def test_the_hub_library_is_given_no_url():
    with pytest.raises(ConfigError, match="sources parquet and webdataset read URLs"):
        Huggingface(dataset="s3://bucket/data").open()


@pytest.mark.parametrize(("failures", "outcome"), [(1, b"abc"), (99, StoreError)])
def test_a_store_that_is_silent_refuses_no_image(monkeypatch, failures, outcome):
    monkeypatch.setattr("generators.places.MOST_SECONDS", 0.01)
    files = fsspec.filesystem("memory")
    files.pipe_file("/urls/1.png", b"abc")
    where = place("memory://urls/1.png")
    whole, left = type(files).cat_file, iter([True] * failures)

    def cut(*args, **kwargs):
        if next(left, False):
            raise ConnectionResetError("cut")
        return whole(*args, **kwargs)

    monkeypatch.setattr(type(files), "cat_file", cut)
    if outcome is StoreError:
        with pytest.raises(StoreError, match="cut"):
            read_image(where)
    else:
        assert read_image(where) == outcome


def test_a_missing_object_is_a_refused_image():
    with pytest.raises(SampleRejected, match="missing_file"):
        read_image(place("memory://urls/none.png"))
