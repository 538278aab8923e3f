import hashlib
import pickle

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from curriculum.data.decode import decode
from curriculum.sources.cifar import Cifar
from generators.errors import ConfigError, DataError
from generators.registry import MethodSpec, build

# torchvision itself reads these files: the archive's layout, with few images in it.
LAYOUTS = {
    10: (CIFAR10, "labels", ["data_batch_1", "data_batch_2"], ["test_batch"]),
    100: (CIFAR100, "fine_labels", ["train"], ["test"]),
}


@pytest.fixture(params=[10, 100])
def archive(request, tmp_path, monkeypatch):
    """A small archive of the real layout, whose checksums torchvision is told."""
    num_classes = request.param
    dataset, key, train, test = LAYOUTS[num_classes]
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name):
        data = rng.integers(0, 256, (num_classes, 3072), dtype=np.uint8)
        return write(name, {"data": data, key: list(range(num_classes))})

    monkeypatch.setattr(dataset, "train_list", [batch(name) for name in train])
    monkeypatch.setattr(dataset, "test_list", [batch(name) for name in test])
    names = [f"class{label}" for label in range(num_classes)]
    meta = write(dataset.meta["filename"], {dataset.meta["key"]: names})
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": meta[1]})
    return num_classes, tmp_path, folder, train, test


def test_official_splits_and_pixels(archive):
    num_classes, root, folder, train, test = archive
    images = Cifar(num_classes=num_classes, root=str(root)).open()
    num_train = num_classes * len(train)
    assert images.splits is not None
    assert images.splits.tolist() == ["train"] * num_train + ["test"] * num_classes
    assert images.labels.tolist() == list(range(num_classes)) * (len(train) + 1)
    assert images.class_names[3] == "class3"
    raw = pickle.loads((folder / test[0]).read_bytes())["data"][2].reshape(3, 32, 32)
    row = num_train + 2
    np.testing.assert_array_equal(decode(images.read(row), 3), raw.transpose(1, 2, 0))
    assert images.origin(row) == f"cifar{num_classes}#{row}"


def test_changed_files_are_not_read(archive):
    num_classes, root, folder, _, test = archive
    (folder / test[0]).write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(DataError, match="corrupted"):
        Cifar(num_classes=num_classes, root=str(root)).open()


@pytest.mark.parametrize("num_classes", [10, 100])
def test_missing_files(num_classes, tmp_path):
    with pytest.raises(DataError, match=rf"no complete CIFAR-{num_classes} .*download: true"):
        Cifar(num_classes=num_classes, root=str(tmp_path)).open()


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ConfigError, match="num_classes"):
        build("source", MethodSpec(name="cifar", params={"num_classes": 20, "root": "."}))
