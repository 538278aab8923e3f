import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pytest

from generators.errors import DataError
from infra.storage.atomic import remove_temporary
from infra.storage.shards import (
    ShardMember,
    ShardReader,
    ShardRef,
    read_layout,
    read_ref,
    read_rows,
    write_info,
    write_shard,
)
from tests.infra.storage.samples import encoded, member, members, rows_of


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_writes_are_byte_identical_in_any_order(tmp_path: Path) -> None:
    samples = members(40)
    rows = rows_of(samples, failed=("lost-2", "lost-1"))
    ref = write_shard(tmp_path / "1", "s", samples, rows)
    order = list(range(42))
    random.Random(0).shuffle(order)
    shuffled = [samples[i] for i in order if i < 40]
    again = write_shard(tmp_path / "2", "s", shuffled, rows.take(order))
    assert ref == again
    assert shard_bytes(tmp_path / "1") == shard_bytes(tmp_path / "2")
    assert sorted(shard_bytes(tmp_path / "1")) == ["s.parquet", "s.tar"]
    assert ShardRef.from_json(json.loads(json.dumps(ref.as_json()))) == ref
    assert (ref.num_samples, ref.num_rows) == (40, 42)
    time.sleep(0.01)
    write_shard(tmp_path / "1", "s", samples, rows)
    assert shard_bytes(tmp_path / "1") == shard_bytes(tmp_path / "2")


def test_members_of_the_tar(tmp_path: Path) -> None:
    write_shard(tmp_path, "s", members(2)[::-1], rows_of(members(2)))
    with tarfile.open(tmp_path / "s.tar") as tar:
        entries = tar.getmembers()
        contents = {entry.name: tar.extractfile(entry).read() for entry in entries}  # type: ignore[union-attr]
    assert [entry.name for entry in entries] == [
        f"sample-00{i}_x.{end}" for i in (0, 1) for end in ("cls", "json", "png")
    ]
    assert contents["sample-001_x.cls"] == b"1"
    assert contents["sample-001_x.png"] == encoded(1)
    assert json.loads(contents["sample-001_x.json"]) == dict(member(1).info)
    assert contents["sample-001_x.json"].isascii()
    for entry in entries:
        fixed = (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode)
        assert fixed == (0, 0, 0, "", "", 0o644)


def test_rows_hold_places_and_failures(tmp_path: Path) -> None:
    samples = members(3)
    ref = write_shard(tmp_path, "s", samples, rows_of(samples, failed=("a-failed",)))
    rows = read_rows(tmp_path, "s").to_pylist()
    assert [row["key"] for row in rows] == ["a-failed", *(sample.key for sample in samples)]
    assert rows[0] == {
        "key": "a-failed",
        "label": 0,
        "status": "failed",
        "shard": "s",
        "shard_sha256": ref.sha256,
        "member": "",
        "offset": -1,
        "size": -1,
    }
    with tarfile.open(tmp_path / "s.tar") as tar:
        for row in rows[1:]:
            entry = tar.getmember(row["member"])
            assert (row["offset"], row["size"]) == (entry.offset_data, entry.size)
    with ShardReader(tmp_path) as reader:
        found = [reader.read(row["shard"], row["offset"], row["size"]) for row in rows[1:]]
    assert found == [sample.image for sample in samples]


def test_a_key_of_the_longest_length_keeps_its_place(tmp_path: Path) -> None:
    sample = member(0, key="k" * 95)
    write_shard(tmp_path, "s", [sample], rows_of([sample]))
    row = read_rows(tmp_path, "s").to_pylist()[0]
    assert ShardReader(tmp_path).read("s", row["offset"], row["size"]) == sample.image


GOOD_INFO = dict(member(0).info)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "a.b"}, r"key of a sample: 'a\.b' is not allowed"),
        ({"key": ""}, "is not allowed"),
        ({"key": "k\n"}, "is not allowed"),
        ({"key": "ä"}, "is not allowed"),
        ({"key": "__k"}, "not beginning with __"),
        ({"key": "k" * 96}, "1 to 95 characters"),
        ({"key": "sample-001_x"}, "sample-001_x: the key occurs twice"),
        ({"label": -1}, "label -1"),
        ({"label": True}, "label True"),
        ({"image": b""}, "not a PNG file"),
        ({"image": encoded(0, image_format="JPEG")}, "not a PNG file"),
        ({"image": encoded(0, "RGB")}, "image mode 'RGB', there 'L'"),
        ({"image": encoded(0, "I;16")}, "image of mode 'I;16'"),
        ({"image": encoded(0, "RGBA")}, "image of mode 'RGBA'"),
        ({"extension": "jpg", "image": encoded(0, image_format="JPEG")}, "extension 'jpg', there"),
        ({"extension": "webp"}, "expected 'png' or 'jpg'"),
        ({"info": {}}, "no fields"),
        ({"info": {**GOOD_INFO, "score": 1}}, "'score' is int64, there float64"),
        ({"info": {**GOOD_INFO, "more": 1}}, "'more' is int64, there missing"),
        ({"info": {**GOOD_INFO, "hard": 1}}, "'hard' is int64, there bool"),
        ({"info": {"prompt": "a"}}, "'hard' is missing, there bool"),
        ({"info": {**GOOD_INFO, "score": None}}, "'score' is None"),
        ({"info": {**GOOD_INFO, "score": float("nan")}}, "'score' is nan"),
        ({"info": {**GOOD_INFO, "score": float("inf")}}, "'score' is inf"),
        ({"info": {**GOOD_INFO, "image_guidance": 2**63}}, "64-bit integer"),
        ({"info": {**GOOD_INFO, "score": [1.0]}}, "'score' is"),
    ],
)
def test_what_readers_would_lose_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    samples = [member(1), member(2, **{"key": "z", **change})]
    rows = pa.table({"key": [sample.key for sample in samples]})
    with pytest.raises(DataError, match=message):
        write_shard(tmp_path, "s", samples, rows)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    samples = members(2)
    rows = rows_of(samples)
    bad = [
        (rows_of(samples[:1]), "no row for the image 'sample-001_x'"),
        (pa.concat_tables([rows, rows.slice(0, 1)]), "unique"),
        (rows.drop_columns(["key"]), "need a column 'key'"),
        (rows.append_column("offset", [[0, 0]]), "none of"),
    ]
    for table, message in bad:
        with pytest.raises(DataError, match=message):
            write_shard(tmp_path, "s", samples, table)
    with pytest.raises(DataError, match=r"name of a shard: '\.\./s'"):
        write_shard(tmp_path, "../s", samples, rows)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_complete_only_with_both_right_files(tmp_path: Path) -> None:
    samples = members(3)
    ref = write_shard(tmp_path, "s", samples, rows_of(samples))
    tar, table = tmp_path / "s.tar", tmp_path / "s.parquet"
    tar_bytes, table_bytes = tar.read_bytes(), table.read_bytes()
    assert read_ref(tmp_path, "s") == read_ref(tmp_path, "s", verify=True) == ref
    assert read_ref(tmp_path, "other") is None
    (tmp_path / "other.parquet").write_bytes(table_bytes)
    (tmp_path / "other.tar").write_bytes(tar_bytes)
    assert read_ref(tmp_path, "other") is None  # a copy under another name

    tar.write_bytes(tar_bytes[:-1])
    assert read_ref(tmp_path, "s") is None
    flipped = bytearray(tar_bytes)
    flipped[700] ^= 1
    tar.write_bytes(flipped)
    assert read_ref(tmp_path, "s") == ref
    assert read_ref(tmp_path, "s", verify=True) is None
    tar.unlink()
    assert read_ref(tmp_path, "s") is None
    tar.write_bytes(tar_bytes)

    for damaged in (b"", table_bytes[:50], table_bytes[:-20], b"PAR1" * 20):
        table.write_bytes(damaged)
        assert read_ref(tmp_path, "s") is None
    table.unlink()
    assert read_ref(tmp_path, "s") is None
    assert write_shard(tmp_path, "s", samples, rows_of(samples)) == ref
    assert (tar.read_bytes(), table.read_bytes()) == (tar_bytes, table_bytes)


def test_a_damaged_byte_of_the_rows_is_found(tmp_path: Path) -> None:
    """Parquet has checksums for its pages, none for its footer."""
    ref = write_shard(tmp_path, "s", members(3), rows_of(members(3)))
    path = tmp_path / "s.parquet"
    rows, good = read_rows(tmp_path, "s"), path.read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    assert footer > 500
    refused = 0
    for place in range(0, footer, 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        found = read_ref(tmp_path, "s", verify=True)
        refused += found is None
        assert found is None or (found == ref and read_rows(tmp_path, "s").equals(rows))
    assert refused > footer // 3 * 0.7


def test_a_shard_without_images_has_no_tar(tmp_path: Path) -> None:
    write_shard(tmp_path, "s", members(1), rows_of(members(1)))
    ref = write_shard(tmp_path, "s", [], rows_of([], failed=("a", "b")))
    assert (ref.num_samples, ref.num_rows, ref.num_bytes) == (0, 2, 0)
    assert sorted(shard_bytes(tmp_path)) == ["s.parquet"]
    assert read_ref(tmp_path, "s", verify=True) == ref
    assert read_layout(tmp_path, "s") is None
    assert read_rows(tmp_path, "s").column("offset").to_pylist() == [-1, -1]


def test_other_images_retract_the_old_rows_before_the_new_tar_appears(tmp_path: Path) -> None:
    """The disk fills up between tar and rows: the old rows must not describe the new tar."""
    write_shard(tmp_path, "s", members(1), rows_of(members(1)))
    code = (
        "import pathlib, resource, sys\n"
        "from infra.storage.shards import write_shard\n"
        "from tests.infra.storage.samples import members, rows_of\n"
        "import pyarrow as pa, random\n"
        "samples = members(2)\n"
        "noise = random.Random(0).randbytes(100_000)\n"
        "rows = rows_of(samples).append_column('noise', pa.array([noise, noise[::-1]]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: write_shard(pathlib.Path(sys.argv[1]), 's', samples, rows)\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "27"  # EFBIG
    assert sorted(shard_bytes(tmp_path)) == ["s.tar"]
    assert read_ref(tmp_path, "s") is None


def test_a_killed_writer_leaves_no_visible_half_shard(tmp_path: Path) -> None:
    """A process is killed as soon as half of a tar of 60 MB is on the disk."""
    code = (
        "import pathlib, sys\n"
        "from infra.storage.shards import write_shard\n"
        "from tests.infra.storage.samples import member, rows_of\n"
        "image = member(0).image\n"
        "samples = [member(i, image=image + bytes(1_000_000)) for i in range(60)]\n"
        "print('ready', flush=True)\n"
        "write_shard(pathlib.Path(sys.argv[1]), 's', samples, rows_of(samples))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as writer:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and writer.poll() is None:
            sizes = [path.stat().st_size for path in tmp_path.glob(".s.tar.*.tmp")]
            if sizes and sizes[0] > 10_000_000:
                writer.send_signal(signal.SIGKILL)
                break
            time.sleep(0.0005)
    assert writer.returncode == -signal.SIGKILL
    names = sorted(shard_bytes(tmp_path))
    assert [name.rsplit(".", 2)[0] for name in names] == [".s.parquet", ".s.tar"]
    assert read_ref(tmp_path, "s") is None
    assert list(tmp_path.glob("*.tar")) == []
    assert len(remove_temporary(tmp_path)) == 2
    write_shard(tmp_path, "s", members(2), rows_of(members(2)))
    assert sorted(shard_bytes(tmp_path)) == ["s.parquet", "s.tar"]


def test_info_of_shards_that_no_reader_takes_together_is_refused(tmp_path: Path) -> None:
    def shard(name: str, samples: list[ShardMember]) -> ShardRef:
        return write_shard(tmp_path, name, samples, rows_of(samples))

    gray, empty = shard("gray", members(2)), shard("empty", [])
    colour = shard("colour", members(2, image=encoded(0, "RGB")))
    with pytest.raises(DataError, match="shard colour differs from gray: image mode 'RGB'"):
        write_info(tmp_path, {}, {"train": [gray], "val": [colour]})
    with pytest.raises(DataError, match="splits"):
        write_info(tmp_path, {"splits": {}}, {"train": [gray]})
    assert not (tmp_path / "_info.json").exists()
    write_info(tmp_path, {"class_names": ["a", "b"]}, {"train": [empty, gray]})
    info = json.loads((tmp_path / "_info.json").read_text())
    assert info == {
        "class_names": ["a", "b"],
        "image": {"extension": "png", "mode": "L"},
        "json": {
            "hard": "bool",
            "image_guidance": "int64",
            "prompt": "string",
            "score": "float64",
        },
        "splits": {
            "train": {
                "name": "train",
                "num_samples": 2,
                "filenames": ["gray.tar"],
                "shard_lengths": [2],
                "sha256": [gray.sha256],
            }
        },
    }
