"""Reads shards as their users do, with readers that know nothing of this project.

Each function returns key to label, after decoding every image, and fails on a key that comes twice.
timm's reader gives no keys, so its function returns labels with pixels.
"""

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_with_webdataset(directory: Path, names: Iterable[str]) -> dict[str, int]:
    import webdataset

    urls = [str(directory / f"{name}.tar") for name in names]
    samples = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    return _unique((s["__key__"], s["cls"], _image(s).size, s["json"]) for s in samples)


def read_with_datasets(directory: Path, names: Iterable[str], cache: Path) -> dict[str, int]:
    import datasets

    datasets.disable_progress_bars()
    files = [str(directory / f"{name}.tar") for name in names]
    rows = datasets.load_dataset(
        "webdataset", data_files=files, split="train", cache_dir=str(cache)
    )
    return _unique((row["__key__"], row["cls"], _image(row).size, row["json"]) for row in rows)


def read_with_ray(directory: Path, names: Iterable[str]) -> dict[str, int]:
    """Needs a Ray that is running."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    files = [str(directory / f"{name}.tar") for name in names]
    rows = ray.data.read_webdataset(files).iter_rows()
    return _unique(
        (row["__key__"], int(row["cls"]), _image(row).shape[:2], row["json"]) for row in rows
    )


def read_with_timm(directory: Path, split: str) -> Counter[tuple[int, bytes]]:
    """How often each (label, RGB pixels) comes."""
    from timm.data import create_dataset

    dataset = create_dataset("wds/any", root=str(directory), split=split)
    found = [(int(label), image.tobytes()) for image, label in dataset]
    assert len(found) == len(dataset), f"{len(dataset)} samples promised, {len(found)} read"
    return Counter(found)


def expected_for_timm(images: Iterable[tuple[int, bytes]]) -> Counter[tuple[int, bytes]]:
    """What `read_with_timm` must give for (label, encoded image) pairs."""
    from PIL import Image

    return Counter(
        (label, Image.open(io.BytesIO(data)).convert("RGB").tobytes()) for label, data in images
    )


def _image(sample: Any) -> Any:
    return sample["png"] if "png" in sample else sample["jpg"]


def _unique(samples: Iterable[tuple[str, int, tuple[int, ...], Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, label, size, info in samples:
        assert key not in found, f"{key} came twice"
        assert min(size) > 0, f"{key} has no pixels"
        assert isinstance(info, dict), f"the .json of {key} was not read: {info!r}"
        found[key] = label
    return found
