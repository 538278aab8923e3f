"""The readers people use must load every sample with its label, and decode every image."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.storage.shards import ShardMember, write_info, write_shard
from tests.infra.storage.samples import encoded, members, rows_of
from tests.infra.storage.stock_readers import (
    expected_for_timm,
    read_with_datasets,
    read_with_ray,
    read_with_timm,
    read_with_webdataset,
)

KINDS = {
    "gray-png": {"mode": "L", "image_format": "PNG", "extension": "png"},
    "rgb-png": {"mode": "RGB", "image_format": "PNG", "extension": "png"},
    "gray-jpg": {"mode": "L", "image_format": "JPEG", "extension": "jpg"},
    "rgb-jpg": {"mode": "RGB", "image_format": "JPEG", "extension": "jpg"},
}


def samples_of(kind: str, count: int, first: int) -> list[ShardMember]:
    mode, image_format = KINDS[kind]["mode"], KINDS[kind]["image_format"]
    made = []
    for index in range(first, first + count):
        image = encoded(index, mode, size=8 + index % 3, image_format=image_format)
        changes = {"image": image, "extension": KINDS[kind]["extension"]}
        # keys that upset careless readers: like an option, a format, a private field
        if index == 1:
            changes["key"] = "-x"
        if index == 2:
            changes["key"] = "_png__"
        if index == 3:
            changes["key"] = "0001"
        made += members(1, first=index, **changes)
    return made


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> list[ShardMember]:
    """Three shards under `tmp_path / "shards"`, the second without images."""
    folder = tmp_path / "shards"
    parts = {
        "a-first": samples_of(request.param, 7, 0),
        "b-empty": [],
        "c-last": samples_of(request.param, 5, 7),
    }
    refs = [
        write_shard(folder, name, part, rows_of(part, failed=(f"failed-{name}",)))
        for name, part in parts.items()
    ]
    write_info(folder, {"class_names": ["ant", "bee"]}, {"train": refs[:2], "test": refs[1:]})
    return [sample for part in parts.values() for sample in part]


def names(folder: Path) -> list[str]:
    """What a user's `*.tar` finds."""
    return sorted(path.stem for path in folder.glob("*.tar"))


def labels(samples: list[ShardMember]) -> dict[str, int]:
    return {sample.key: sample.label for sample in samples}


def test_webdataset(store: list[ShardMember], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    assert read_with_webdataset(folder, names(folder)) == labels(store)


def test_datasets(store: list[ShardMember], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    assert read_with_datasets(folder, names(folder), tmp_path / "cache") == labels(store)


def test_timm(store: list[ShardMember], tmp_path: Path) -> None:
    for split, part in (("train", store[:7]), ("test", store[7:])):
        expected = expected_for_timm((sample.label, sample.image) for sample in part)
        assert sum(expected.values()) == len(part)
        assert read_with_timm(tmp_path / "shards", split) == expected


@pytest.fixture(scope="module")
def running_ray() -> Iterator[None]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    import ray

    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.mark.slow
def test_ray_data(running_ray: None, store: list[ShardMember], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    assert read_with_ray(folder, names(folder)) == labels(store)
