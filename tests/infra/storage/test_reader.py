import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from generators.errors import DataError
from infra.storage.shards import ShardReader, read_rows, write_shard
from tests.infra.storage.samples import members, rows_of


def read_all(reader: ShardReader, rows: list[dict[str, object]]) -> list[bytes]:
    return [reader.read(row["shard"], row["offset"], row["size"]) for row in rows]  # type: ignore[arg-type]


def store(folder: Path, shards: int, samples: int) -> tuple[list[dict[str, object]], list[bytes]]:
    rows, images = [], []
    for number in range(shards):
        found = members(samples, first=number * samples)
        write_shard(folder, f"s{number}", found, rows_of(found))
        rows += read_rows(folder, f"s{number}").to_pylist()
        images += [sample.image for sample in found]
    return rows, images


def open_files(folder: Path) -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(str(folder) in str(link.readlink()) for link in links if link.is_symlink())


def test_reader_keeps_few_files_open(tmp_path: Path) -> None:
    rows, images = store(tmp_path, shards=5, samples=3)
    order = [(i * 4) % 15 for i in range(15)]
    with ShardReader(tmp_path, max_open=2) as reader:
        assert [read_all(reader, [rows[i]])[0] for i in order] == [images[i] for i in order]
        assert open_files(tmp_path) == 2
        reader.close()
        assert open_files(tmp_path) == 0
        assert read_all(reader, rows) == images


def test_reader_in_threads_forks_and_pickles(tmp_path: Path) -> None:
    rows, images = store(tmp_path, shards=3, samples=4)
    reader = ShardReader(tmp_path, max_open=1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_all(reader, rows), range(20)))
    assert all(each == images for each in found)
    assert read_all(pickle.loads(pickle.dumps(reader)), rows) == images

    def child(send: Callable[[object], None]) -> None:
        send(read_all(reader, rows) == images)

    receiver, sender = multiprocessing.Pipe()
    reader._lock.acquire()  # as if another thread read at the moment of the fork
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender.send,))
    process.start()
    reader._lock.release()
    assert receiver.poll(20)
    assert receiver.recv() is True
    process.join()
    assert read_all(reader, rows) == images


def test_reader_names_what_is_wrong(tmp_path: Path) -> None:
    store(tmp_path, shards=1, samples=1)
    reader = ShardReader(tmp_path)
    with pytest.raises(DataError, match=r"s1\.tar: no such shard"):
        reader.read("s1", 0, 1)
    with pytest.raises(DataError, match="no image at offset -1"):
        reader.read("s0", -1, -1)
    with pytest.raises(DataError, match="is not allowed"):
        reader.read("../s0", 0, 1)
    size = (tmp_path / "s0.tar").stat().st_size
    with pytest.raises(DataError, match="ends before byte"):
        reader.read("s0", size - 1, 2)
