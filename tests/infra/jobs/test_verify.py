"""`discl verify` finds what is wrong with an output, on a disk and in an object store."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from generators.errors import OutputError
from generators.places import Place, place
from infra.jobs.verify import verify
from infra.storage.atomic import read_table, replacing, write_table
from infra.storage.files import read_bytes, remove
from infra.storage.lock import LOCK_FILE, Lease
from infra.storage.manifest import commit_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import ShardMember, read_ref, read_rows, tar_path, write_info, write_shard
from infra.storage.versions import keep_version
from tests.infra.jobs.world import generate, prepare, write_images
from tests.infra.storage.samples import encoded

SHARDS = ("g000-a", "g000-b")


@pytest.fixture(params=["disk", "objects"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunStore:
    """A run that has come to its end: two shards of three requests, one of them failed."""
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "cache"))
    url = f"memory://bucket/{secrets.token_hex(8)}"
    found = RunStore(tmp_path / "run" if request.param == "disk" else place(url))
    found.claim({"name": "x"}, update=False)
    for number, name in enumerate(SHARDS):
        members = [sample(f"{number}{index:031x}") for index in range(2)]
        rows = [row(member.key) for member in members] + [row(f"{number}{9:031x}", "failed")]
        write_shard(found.generated, name, members, pa.Table.from_pylist(rows))
    commit(found)
    return found


def sample(key: str) -> ShardMember:
    return ShardMember(key=key, image=encoded(0), extension="png", label=1, info={"key": key})


def row(key: str, status: str = "ok") -> dict[str, object]:
    reason = "" if status == "ok" else "not_finite"
    return {"key": key, "image_guidance": 0, "label": 1, "status": status, "reason": reason}


def commit(store: RunStore) -> None:
    commit_manifest(store.manifest, [read_rows(store.generated, name) for name in SHARDS])
    refs = [read_ref(store.generated, name) for name in SHARDS]
    write_info(store.generated, {}, {"train": [ref for ref in refs if ref]})


def changed(path: Place, change: Callable[[list[dict[str, object]]], object]) -> None:
    rows = read_table(path).to_pylist()
    change(rows)
    write_table(path, pa.Table.from_pylist(rows, read_table(path).schema))


def codes(store: RunStore) -> list[str]:
    return [problem.code for problem in verify(store).problems]


def test_a_good_run_is_clean(store: RunStore) -> None:
    keep_version(store)
    found = verify(store)
    assert found.problems == []
    assert (found.shards, found.images, found.finished) == (2, 6, False)
    assert found.num_bytes == sum(len(read_bytes(tar_path(store.generated, n))) for n in SHARDS)


def test_rows_of_the_manifest(store: RunStore) -> None:
    changed(store.manifest, lambda rows: rows.append(dict(rows[0])))
    assert codes(store) == ["key_twice", "other_rows"]
    commit(store)
    changed(store.manifest, lambda rows: rows.pop())
    assert codes(store) == ["other_rows"]
    commit(store)
    changed(store.manifest, lambda rows: rows[0].update(status="filtered"))
    assert codes(store) == ["wrong_row"]
    changed(store.manifest, lambda rows: rows[0].update(reason="too_far"))
    assert codes(store) == []  # filters change rows of a manifest, and nothing else
    changed(store.manifest, lambda rows: rows[0].update(offset=3))
    assert codes(store) == ["other_rows"]


def test_a_source_is_an_image_to_train_on(tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    made = prepare(tmp_path / "data", tmp_path / "run")
    generate(made)
    store = made.store
    assert "other_split" not in codes(store)
    sources = set(read_table(store.manifest)["source_key"].to_pylist())

    def move(rows: list[dict[str, object]]) -> None:
        for one in rows:
            one["split"] = "test" if one["key"] == min(sources) else one["split"]

    changed(store.real_manifest, move)
    (problem,) = (one for one in verify(store).problems if one.code == "other_split")
    assert problem.detail == f"1 sources are no training images, e.g. {min(sources)}"


def test_bytes_of_shards(store: RunStore) -> None:
    path = tar_path(store.generated, SHARDS[0])
    data = bytearray(read_bytes(path))
    data[600] ^= 1
    path.write_bytes(bytes(data))
    assert codes(store) == ["wrong_sha256"]
    path.write_bytes(bytes(data[:-1]))
    assert codes(store) == ["wrong_size"]
    remove(path)
    assert "missing_tar" in codes(store)


def test_files_that_are_gone_or_damaged(store: RunStore) -> None:
    keep_version(store)
    (store.root / "manifests" / "000001.parquet").write_bytes(b"PAR1")
    store.levels.mkdir(exist_ok=True)
    (store.levels / "g000-x.parquet").write_bytes(b"PAR1 no more")
    (store.generated / "_info.json").write_bytes(b"{}")
    store.stages.write_bytes(b"[")
    assert codes(store) == ["damaged_rows", "damaged_file", "damaged_rows", "damaged_file"]
    remove(store.generated / f"{SHARDS[1]}.parquet")
    assert "missing_rows" in codes(store)


def test_a_run_at_work_may_be_writing(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.storage.lock.BEAT_SECONDS", 0.2)
    (store.generated / "g000-c.tar").write_bytes(bytes(1024))
    assert codes(store) == ["missing_rows"]
    where = store.root / LOCK_FILE
    lock = store.lock() if isinstance(where, Path) else Lease(where=where, beat_seconds=0.1).held()
    with lock:
        found = verify(store)
    assert found.problems == []
    assert "process" in found.at_work
    assert verify(store).at_work == ""


def test_leftovers_of_the_dead_but_not_of_the_living(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.claim({"name": "x"}, update=False)
    with replacing(store.generated / "g000-a.tar"):
        assert codes(store) == []
    remove(store.generated / "g000-a.tar")
    left = store.generated / f".g000-a.tar.{'0' * 16}.tmp"
    left.write_bytes(b"half")
    assert codes(store) == ["temporary_file"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not the output of a run"):
        verify(RunStore(tmp_path))
