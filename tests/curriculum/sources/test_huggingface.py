import subprocess
import sys

import pytest

from curriculum.data.decode import decode
from curriculum.sources.huggingface import Huggingface
from generators.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def table(image_bytes):
    def make(labels, start=0, names=("cat", "dog")):
        label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
        cells = [{"bytes": image_bytes(start + row), "path": None} for row in range(len(labels))]
        features = datasets.Features({"image": datasets.Image(), "label": label})
        return datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features)

    return make


@pytest.fixture
def save(tmp_path):
    def make(**parts):
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
        return str(tmp_path / "data")

    return make


def values(images):
    return [int(decode(images.read(row), 1)[0, 0, 0]) for row in range(len(images.labels))]


def test_official_splits_of_a_saved_folder(save, table):
    path = save(test=table([1], 9), validation=table([0], 7), train=table([0, 1], 3))
    images = Huggingface(dataset=path).open()
    assert images.class_names == ("cat", "dog")
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "train", "val", "test"]
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert values(images) == [3, 4, 7, 9]
    assert [images.origin(row) for row in (1, 2, 3)] == ["train#1", "validation#0", "test#0"]


def test_rows_follow_the_order_of_the_data_set(save, table):
    shuffled = table([0, 0, 0, 1, 1, 1]).shuffle(seed=1)
    images = Huggingface(dataset=save(train=shuffled)).open()
    assert values(images) != sorted(values(images))
    assert [value // 3 for value in values(images)] == images.labels.tolist()
    assert images.splits is None


def test_bytes_are_those_of_the_file(save, table, image_bytes):
    images = Huggingface(dataset=save(train=table([0, 1], 5))).open()
    assert images.read(1) == image_bytes(6)


def test_named_splits(save, table):
    path = save(train=table([0, 1]), validation=table([1]), test=table([-1]))
    with pytest.raises(DataError, match=r"test#0: label -1 .*no labels"):
        Huggingface(dataset=path).open()
    images = Huggingface(dataset=path, test_split="validation").open()
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "train", "test"]


def test_a_single_table_and_plain_labels(tmp_path, table):
    table([1, 0], names=None).save_to_disk(tmp_path / "one")
    images = Huggingface(dataset=str(tmp_path / "one")).open()
    assert images.class_names == ("0", "1")
    assert Huggingface(dataset=str(tmp_path / "one"), classes=("a", "b")).open().class_names == (
        "a",
        "b",
    )


def test_a_folder_of_data_files(tmp_path, table):
    (tmp_path / "files").mkdir()
    table([0, 1], 20).to_parquet(tmp_path / "files" / "train-00000-of-00001.parquet")
    table([1], 30).to_parquet(tmp_path / "files" / "test-00000-of-00001.parquet")
    spec = Huggingface(dataset=str(tmp_path / "files"), cache_dir=str(tmp_path / "cache"))
    images = spec.open()
    assert images.class_names == ("cat", "dog")
    assert values(images) == [20, 21, 30]
    assert images.splits is not None
    assert images.splits.tolist() == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_column": "img"}, "no column 'img'; expected one of 'image', 'label'"),
        ({"label_column": "fine"}, "no column 'fine'"),
        ({"val_split": "dev"}, "val_split: .* has no split 'dev'; one of 'train'"),
        ({"test_split": "train"}, "one split for two purposes"),
        ({"classes": ("a",)}, r"train#1: label 1 lies outside the 1 classes"),
    ],
)
def test_specs_that_are_refused(save, table, params, message):
    with pytest.raises(DataError, match=message):
        Huggingface(dataset=save(train=table([0, 1])), **params).open()


def test_splits_that_are_not_clear(save, table):
    path = save(train=table([0, 1]), dev=table([0]), validation=table([1]))
    with pytest.raises(DataError, match="'dev' and 'validation' are both a val split"):
        Huggingface(dataset=path).open()


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match="dataset: cannot load"):
        Huggingface(dataset=str(tmp_path / "none")).open()


def test_the_library_is_optional():
    code = """
import sys
sys.modules["datasets"] = None
from curriculum.sources.huggingface import Huggingface
try:
    Huggingface(dataset="x/y").open()
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DataError")
    assert "pip install 'diffusion-curriculum[datasets]'" in done.stdout
