"""Real images into the run's own shards; what cannot be read is a row with a reason."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curriculum.data.decode import decode
from generators.errors import DataError
from generators.registry import content_hash
from infra.jobs.dataset import ingest_shards, open_dataset, select
from infra.jobs.images import PixelFormat, read_pixels
from infra.jobs.ingest import chunks, ingest_shard, source_key
from infra.storage.runs import RunStore
from infra.storage.shards import ShardReader, read_rows
from tests.infra.jobs.world import config_for, contents, context, ingest, png, run, write_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def test_every_image_is_stored_once_in_its_split(images: Path, tmp_path: Path) -> None:
    dataset = ingest(config_for(images), RunStore(tmp_path / "run"))
    assert dataset.class_names == ("across", "rare", "upright")
    assert dataset.class_counts().tolist() == [9, 3, 7]  # a quarter of 12, 4 and 10 is for tests
    assert dataset.split("test").num_rows == 3 + 1 + 3
    assert list(dataset.shots()) == ["many", "few", "medium"]
    keys = dataset.rows.column("key").to_pylist()
    assert len(set(keys)) == len(keys) == 26


def test_stored_pixels_and_hashes_are_those_of_the_files(images: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    dataset = ingest(config_for(images), store)
    reader = ShardReader(store.real)
    for row in dataset.rows.to_pylist():
        stored = reader.read(row["shard"], row["offset"], row["size"])
        assert hashlib.sha256(stored).hexdigest() == row["sha256"]
        original = np.asarray(Image.open(images / row["origin"]))
        assert np.array_equal(decode(stored, 1)[:, :, 0], original)
        assert row["key"] == source_key(row["origin"])
        pixels = read_pixels(reader, row, PixelFormat(channels=1, image_size=8))
        assert np.array_equal(pixels[0].numpy(), original)


def test_unreadable_images_are_rows_with_a_reason(images: Path, tmp_path: Path) -> None:
    broken = {
        "upright/cut.png": png()[:40],
        "upright/empty.png": b"",
        "upright/text.jpg": b"not an image at all",
    }
    for name, data in broken.items():
        (images / name).write_bytes(data)
    store = RunStore(tmp_path / "run")
    dataset = ingest(config_for(images, "data.test_percent=10"), store)
    failed = [row for row in dataset.rows.to_pylist() if row["status"] == "failed"]
    assert {row["origin"] for row in failed} == set(broken)
    for row in failed:
        assert row["reason"] == "unreadable_image"
        assert row["detail"]
        assert (row["member"], row["size"], row["sha256"]) == ("", -1, "")
    used = dataset.split("train").num_rows + dataset.split("test").num_rows
    assert used == dataset.rows.num_rows - len(broken) == 26


@pytest.mark.parametrize("changed", ["removed", "added"])
def test_a_source_that_changes_under_a_run_is_noticed(
    images: Path, tmp_path: Path, changed: str
) -> None:
    """The worker opens the source again: its row 7 may be another image by then."""
    config, store = config_for(images), RunStore(tmp_path / "run")
    parts = ingest_shards(config.data, config.shards, select(config.data), store)
    if changed == "removed":
        (images / "across" / "000.png").unlink()
    else:
        (images / "across" / "0.png").write_bytes(png())
    with pytest.raises(DataError, match="have changed since this run began"):
        run(ingest_shard, parts[-1])
    assert contents(store.real) == {}


def test_a_file_that_vanishes_while_it_is_read_is_a_row(images: Path, tmp_path: Path) -> None:
    config, store = config_for(images), RunStore(tmp_path / "run")
    (part, *_) = ingest_shards(config.data, config.shards, select(config.data), store)
    worker = context()
    opened = select(config.data).images
    worker.keep("source", content_hash(config.data.source.as_json()), lambda: opened)
    (images / opened.origin(part.indices[0])).unlink()
    ref = run(ingest_shard, part, worker=worker)
    assert (ref.num_rows, ref.num_samples) == (4, 3)
    reasons = read_rows(store.real, part.name).column("reason").to_pylist()
    assert sorted(reasons) == ["", "", "", "missing_file"]


def test_a_class_that_cannot_be_read_at_all_ends_the_run(images: Path, tmp_path: Path) -> None:
    for path in (images / "rare").iterdir():
        path.write_bytes(b"gone")
    with pytest.raises(DataError, match=r"class 'rare' can be read: rare/00\d.png: unreadable"):
        ingest(config_for(images), RunStore(tmp_path / "run"))


def test_a_test_split_that_cannot_be_read_ends_the_run(images: Path, tmp_path: Path) -> None:
    config = config_for(images)
    chosen = select(config.data)
    for index in chosen.split["test"]:
        (images / chosen.images.origin(int(index))).write_bytes(b"gone")
    with pytest.raises(DataError, match="no test image can be read"):
        ingest(config, RunStore(tmp_path / "run"))


def test_ingesting_twice_gives_the_same_bytes_and_reads_nothing(
    images: Path, tmp_path: Path
) -> None:
    config = config_for(images)
    one, two = RunStore(tmp_path / "one"), RunStore(tmp_path / "two")
    ingest(config, one)
    ingest(config, two)
    assert contents(one.real) == contents(two.real)
    before = {path: path.stat().st_mtime_ns for path in one.real.iterdir()}
    parts = ingest_shards(config.data, config.shards, select(config.data), one)
    worker = context()
    for part in parts:
        assert run(ingest_shard, part, worker=worker).name == part.name
    assert worker.models == {}  # the source was not opened
    assert {path: path.stat().st_mtime_ns for path in one.real.iterdir()} == before


def test_a_shard_killed_before_its_twin_is_made_again(images: Path, tmp_path: Path) -> None:
    config, store = config_for(images), RunStore(tmp_path / "run")
    ingest(config, store)
    before = contents(store.real)
    twins = sorted(store.real.glob("*.parquet"))
    twins[0].unlink()
    twins[1].with_suffix(".tar").write_bytes(b"cut")
    ingest(config, store)
    assert contents(store.real) == before


def test_shard_names_follow_files_and_format_but_not_the_place_of_the_output(
    images: Path, tmp_path: Path
) -> None:
    def names(*changes: str) -> list[str]:
        config = config_for(images, *changes)
        parts = ingest_shards(config.data, config.shards, select(config.data), RunStore(tmp_path))
        return [part.name for part in parts]

    before = names()
    assert names() == before
    assert not set(names("data.image_size=16")) & set(before)
    assert not set(names("shards.image_format=jpeg")) & set(before)
    (images / "across" / "000.png").rename(images / "across" / "renamed.png")
    assert names() != before  # a reused shard would still hold the old file


def test_chunks() -> None:
    assert chunks([1, 2, 3, 4, 5], 2) == [(1, 2), (3, 4), (5,)]
    assert chunks([1, 2], 2) == chunks([1, 2], 9) == [(1, 2)]
    assert chunks([], 2) == []


def test_images_of_any_size_and_mode_get_the_run_s_format(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index, mode in enumerate(("L", "RGB", "RGBA", "CMYK", "P", "1")):
            Image.new(mode, (20 + index, 31)).save(
                root / name / f"{index}.{'tif' if mode == 'CMYK' else 'png'}"
            )
    config = config_for(root, "data.channels=3", "data.image_size=16")
    store = RunStore(tmp_path / "run")
    dataset = ingest(config, store)
    assert set(dataset.rows.column("status").to_pylist()) == {"ok"}
    reader = ShardReader(store.real)
    for row in dataset.rows.to_pylist():
        data = reader.read(row["shard"], row["offset"], row["size"])
        assert Image.open(io.BytesIO(data)).size == (16, 16)
        assert read_rows(store.real, row["shard"]).num_rows > 0


def test_the_manifest_is_read_back_as_it_was_committed(images: Path, tmp_path: Path) -> None:
    config, store = config_for(images), RunStore(tmp_path / "run")
    dataset = ingest(config, store)
    again = open_dataset(config.data, store.real_manifest)
    assert again.rows.equals(dataset.rows)
    assert again.locations() == dataset.locations()
    assert set(again.locations()) == set(dataset.split("train").column("key").to_pylist())
