"""Files of an output in an object store: whole or not there, by few requests."""

import secrets
from pathlib import Path

import pytest
import torch
from upath import UPath

from generators.errors import CheckpointError, DataError
from generators.places import place
from infra.storage.atomic import read_json, read_table, replacing, write_json
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from infra.storage.files import (
    file_sha256,
    put_bytes,
    read_bytes,
    remove,
    scratch_folder,
    size_of,
    sizes_in,
    written_locally,
)
from infra.storage.reader import ShardReader
from infra.storage.runs import RunStore
from infra.storage.shards import (
    read_ref,
    read_refs,
    read_rows,
    recorded_ref,
    tar_path,
    write_info,
    write_shard,
)
from tests.infra.storage.samples import members, rows_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UPath:
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "cache"))
    found = place(f"memory://bucket/{secrets.token_hex(8)}")
    assert isinstance(found, UPath)
    return found


def test_an_object_appears_when_its_block_ends_well(root: UPath) -> None:
    with replacing(root / "a.tar") as stream:
        stream.write(b"x" * 1000)
        stream.flush()
        assert sizes_in(root) == {}
    assert sizes_in(root) == {"a.tar": 1000}
    with pytest.raises(ZeroDivisionError), replacing(root / "a.tar") as stream:
        stream.write(bytes(10 // 0))
    assert read_bytes(root / "a.tar") == b"x" * 1000
    assert list(scratch_folder().iterdir()) == []


def test_what_a_dead_writer_left_in_the_scratch_folder_is_removed(root: UPath) -> None:
    left = scratch_folder() / f".a.tar.{'0' * 16}.tmp"
    left.write_bytes(b"half")
    with replacing(root / "b.tar") as stream:
        stream.write(b"whole")
        assert not left.exists()


def test_shards_are_as_on_a_disk(root: UPath, tmp_path: Path) -> None:
    samples = members(3)
    there = write_shard(tmp_path / "disk", "a", samples, rows_of(samples, failed=("z",)))
    assert write_shard(root, "a", samples, rows_of(samples, failed=("z",))) == there
    for name in ("a.tar", "a.parquet"):
        assert read_bytes(root / name) == (tmp_path / "disk" / name).read_bytes()
    write_shard(root, "none", [], rows_of([], failed=("x",)))
    assert read_ref(root, "a", verify=True) == recorded_ref(root, "a") == there
    assert read_refs(root, ["none", "gone", "a"]).keys() == {"none", "a"}
    write_info(root, {}, {"train": [there]})
    rows = read_rows(root, "a").to_pylist()
    with ShardReader(root) as reader:
        for row, sample in zip(rows, samples, strict=False):
            assert reader.read("a", row["offset"], row["size"]) == sample.image
        with pytest.raises(DataError, match="no such shard"):
            reader.read("gone", 0, 1)


def test_a_shard_is_complete_with_its_twin_and_a_tar_of_the_right_size(root: UPath) -> None:
    for name in ("a", "b", "c"):
        write_shard(root, name, members(2), rows_of(members(2)))
    put_bytes(root / "a.tar", read_bytes(root / "a.tar")[:-1])
    remove(root / "b.tar")
    assert read_refs(root, ["a", "b", "c"]).keys() == {"c"}
    assert read_ref(root, "a") is None
    assert read_ref(root, "b") is None


def test_a_copy_of_another_content_is_never_read(
    root: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_shard(root, "a", members(2), rows_of(members(2)))
    with ShardReader(root) as reader:
        reader.fetch(["a"])
    second = write_shard(root, "a", members(3), rows_of(members(3)))
    assert second.sha256 != first.sha256
    row = read_rows(root, "a").to_pylist()[2]
    with ShardReader(root) as reader:
        assert reader.read("a", row["offset"], row["size"]) == members(3)[2].image
    put_bytes(tar_path(root, "a"), bytes(second.num_bytes))
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "another"))
    with pytest.raises(DataError, match="damaged"), ShardReader(root) as reader:
        reader.read("a", row["offset"], row["size"])


def test_plain_files(root: UPath) -> None:
    write_json(root / "a.json", {"a": [1, None]})
    assert read_json(root / "a.json") == {"a": [1, None]}
    assert size_of(root / "a.json") == len(read_bytes(root / "a.json"))
    put_bytes(root / "b", b"1")
    with pytest.raises(FileExistsError):
        put_bytes(root / "b", b"2", new=True)
    assert len(file_sha256(root / "b")) == 64
    remove(root / "b")
    remove(root / "b")
    with pytest.raises(FileNotFoundError):
        read_bytes(root / "b")
    with pytest.raises(DataError, match="missing"):
        read_table(root / "c.parquet")


def test_what_libraries_write_themselves_is_uploaded_with_its_mark_last(root: UPath) -> None:
    with written_locally(root / "model", last="card.json") as folder:
        (folder / "unet").mkdir(parents=True)
        for name in ("card.json", "unet/weights.bin"):
            (folder / name).write_text(name)
    assert read_bytes(root / "model" / "card.json") == b"card.json"
    assert read_bytes(root / "model" / "unet" / "weights.bin") == b"unet/weights.bin"
    with pytest.raises(ZeroDivisionError), written_locally(root / "x" / "y.npy") as path:
        path.write_bytes(bytes(10 // 0))
    assert sizes_in(root / "x") == {}


def test_states_of_trainings(root: UPath) -> None:
    save_checkpoint(root / "c.pt", {"a": torch.arange(3), "epoch": 2})
    state = load_checkpoint(root / "c.pt")
    assert state["a"].tolist() == [0, 1, 2]
    with pytest.raises(CheckpointError, match="no training state"):
        load_checkpoint(root / "d.pt")


def test_an_output_is_claimed_as_on_a_disk(root: UPath) -> None:
    from generators.errors import OutputError

    store = RunStore(root)
    store.require_space(10**18)
    store.claim({"a": 1}, update=False)
    store.claim({"a": 1}, update=False)
    with pytest.raises(OutputError, match="differs in\n  a: 1 there, 2 now"):
        store.claim({"a": 2}, update=False)
    put_bytes(root / "other" / "file", b"")
    with pytest.raises(OutputError, match="not a run"):
        RunStore(root / "other").claim({"a": 1}, update=False)
    assert store.local != RunStore(root / "other").local
    assert store.finished({"a": 1}) is None
