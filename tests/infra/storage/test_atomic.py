import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generators.errors import OutputError
from infra.storage.atomic import (
    read_json,
    remove_temporary,
    replacing,
    temporary_files,
    write_bytes,
    write_json,
    write_table,
)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill_disk() -> None:
    """A real ENOSPC of the kernel."""
    with open("/dev/full", "wb", buffering=0) as stream:
        stream.write(b"x")


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.bin"
    write_bytes(path, b"old")

    def fail_half_way() -> None:
        with replacing(path) as stream:
            stream.write(b"half of the new")
            stream.flush()
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["value.bin"]


def test_a_new_file_is_invisible_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "value.tar"
    with replacing(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        assert not list(path.parent.glob("*.tar"))
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert listing(path.parent) == ["value.tar"]


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_bytes(tmp_path / "value", b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "value").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_named_with_path_and_free_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"

    def write() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            fill_disk()

    with pytest.raises(OutputError, match=r"no space left to write .*shard\.tar: \d+ bytes") as e:
        write()
    assert isinstance(e.value.__cause__, OSError)
    assert e.value.__cause__.errno == errno.ENOSPC
    assert listing(tmp_path) == []


WRITE_A_MEGABYTE = """
import os, sys, pathlib, pyarrow as pa
from generators.errors import OutputError
from infra.storage.atomic import write_bytes, write_table
from infra.storage.shards import write_shard
from tests.infra.storage.samples import members, rows_of
folder, data = pathlib.Path(sys.argv[1]), os.urandom(1_000_000)
try:
    if sys.argv[2] == "bytes":
        write_bytes(folder / "big", data)
    elif sys.argv[2] == "table":
        write_table(folder / "big", pa.table({"a": [data]}))
    else:
        write_shard(folder, "big", members(200), rows_of(members(200)))
except OutputError as error:
    print(error, os.listdir(folder))
"""


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ("size=64k", "bytes", "no space left to write"),
        ("size=64k", "table", "no space left to write"),
        ("size=64k", "shard", "no space left to write"),
        ("ro", "bytes", "cannot write"),
    ],
)
def test_a_small_or_read_only_file_system(
    tmp_path: Path, options: str, kind: str, message: str
) -> None:
    """Writes 1 MB on a tmpfs of its own mount namespace."""
    mount = 'mount -t tmpfs -o "$3" tmpfs "$1" || exit 77; exec "$0" -c "$2" "$1" "$4"'
    shell = ["sh", "-c", mount, sys.executable, str(tmp_path), WRITE_A_MEGABYTE, options, kind]
    try:
        done = subprocess.run(
            ["unshare", "-rm", *shell], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this system")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("mount namespaces are not allowed here")
    assert done.returncode == 0, done.stderr
    assert f"{message} {tmp_path}/big" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (
        tmp_path / "file" / "value",
        tmp_path / "file" / "deep" / "value",
        tmp_path / "folder",
        tmp_path / ("n" * 250),
    ):
        with pytest.raises(OutputError, match="cannot write"):
            write_bytes(path, b"x")
    assert listing(tmp_path) == ["file", "folder"]


def test_json_round_trip_is_stable(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, "ü"], "a": {"y": True}}
    write_json(tmp_path / "1.json", value)
    write_json(tmp_path / "2.json", json.loads(json.dumps(value, sort_keys=True)))
    assert read_json(tmp_path / "1.json") == value
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "1.json", {"a": float("nan")})
    assert read_json(tmp_path / "1.json") == value


def test_equal_tables_give_equal_bytes_however_chunked(tmp_path: Path) -> None:
    """Long unique texts, as requests are: their pages would end where chunks do."""
    count = 70_000
    texts = [hashlib.sha256(str(i).encode()).hexdigest() * 2 for i in range(count)]
    table = pa.table({"i": range(count), "few": [f"w {i % 91}" for i in range(count)], "t": texts})
    chunked = pa.concat_tables([table.slice(a, 1_111) for a in range(0, count, 1_111)])
    chunked = chunked.replace_schema_metadata({"pandas": "not wanted"})
    for name, value in (("1", table), ("2", chunked)):
        write_table(tmp_path / name, value, {"b": "2", "a": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    read = pq.read_table(tmp_path / "2")
    assert read.equals(table)
    assert read.schema.metadata == {b"a": b"1", b"b": b"2"}


def test_a_table_without_rows_keeps_its_schema(tmp_path: Path) -> None:
    empty = pa.schema([("key", pa.string()), ("label", pa.int64())]).empty_table()
    write_table(tmp_path / "empty", empty)
    assert pq.read_table(tmp_path / "empty").schema == empty.schema


def test_removes_what_a_killed_writer_left_and_spares_a_living_one(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib\n"
        "from infra.storage.atomic import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1]) / 'dead.tar') as stream:\n"
        "    stream.write(b'half'); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    (tmp_path / ".profile.tmp").write_bytes(b"not ours")
    with replacing(tmp_path / "alive.tar") as stream:
        stream.write(b"whole")
        assert len(temporary_files(tmp_path)) == 2
        removed = remove_temporary(tmp_path)
    assert [path.name.startswith(".dead.tar.") for path in removed] == [True]
    assert listing(tmp_path) == [".profile.tmp", "alive.tar"]
    assert (tmp_path / "alive.tar").read_bytes() == b"whole"
    assert remove_temporary(tmp_path / "not there") == []
