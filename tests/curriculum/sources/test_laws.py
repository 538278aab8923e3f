import json

import numpy as np
import pytest

from curriculum.data.decode import decode
from generators.registry import MethodSpec, build, names

CLASSES = ("ant", "bee")


@pytest.fixture
def specs(tmp_path, write_images, image_bytes):
    """One small data set of every local source, as plain parameters."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import webdataset
    from datasets import Dataset, Features, Image, Value

    write_images({f"{name}/{row}.png": row for name in CLASSES for row in range(5)})
    (tmp_path / "list.txt").write_text(
        "".join(f"{name}/{row}.png {name}\n" for name in CLASSES for row in range(5))
    )
    cells = [{"bytes": image_bytes(row), "path": None} for row in range(4)]
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 1, 0]}), tmp_path / "x.parquet")
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as tar:
        for row in range(4):
            tar.write({"__key__": str(row), "png": image_bytes(row), "cls": row % 2})
    features = Features({"image": Image(), "label": Value("string")})
    Dataset.from_dict(
        {"image": cells, "label": ["bee", "ant", "ant", "bee"]}, features=features
    ).save_to_disk(tmp_path / "saved")
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in CLASSES:
        (tmp_path / name).rename(folder / name)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mnist.npz",
        **{
            f"x_{part}": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8)
            for part in ("train", "test")
        },
        **{f"y_{part}": np.arange(10) for part in ("train", "test")},
    )
    return {
        "digits": {},
        "folder": {"path": str(folder)},
        "listing": {"path": str(tmp_path / "list.txt"), "root": str(folder)},
        "parquet": {"path": [str(tmp_path / "x.parquet")], "classes": list(CLASSES)},
        "webdataset": {"path": str(tmp_path / "x.tar")},
        "huggingface": {"dataset": str(tmp_path / "saved")},
        "handwriting": {"path": str(tmp_path / "mnist.npz")},
    }


def open_source(name, params):
    """As a worker does: from parameters that went through JSON."""
    return build("source", MethodSpec(name=name, params=json.loads(json.dumps(params)))).open()


@pytest.mark.filterwarnings("ignore:.*unclosed")
def test_every_source_keeps_the_protocol(specs):
    assert set(specs) | {"cifar"} == set(names("source"))
    for name, params in specs.items():
        images, again = open_source(name, params), open_source(name, params)
        rows = range(len(images.labels))
        origins = [images.origin(row) for row in rows]
        assert len(set(origins)) == len(origins), name
        assert origins == [again.origin(row) for row in rows], name
        assert images.labels.dtype == np.int64, name
        assert set(images.labels.tolist()) == set(range(len(images.class_names))), name
        np.testing.assert_array_equal(images.labels, again.labels)
        if images.splits is not None:
            assert images.splits.shape == images.labels.shape
            assert set(images.splits.tolist()) <= {"train", "val", "test"}
        for row in (0, len(images.labels) - 1, 1):
            data = images.read(row)
            assert isinstance(data, bytes)
            assert data == again.read(row), name
            assert decode(data, 3).ndim == 3
