import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from generators.errors import DataError
from infra.storage.atomic import ROWS_PER_GROUP, remove_temporary, temporary_files, write_table
from infra.storage.manifest import commit_manifest, read_manifest
from infra.storage.shards import table_path
from infra.storage.sorted_rows import Part, file_parts, shard_part, write_sorted

LABELS = 5
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int64()),
        ("image_guidance", pa.int64()),
        ("request", pa.string()),
    ]
)


def rows_of(level: int, start: int, count: int, total: int, num_labels: int = LABELS) -> pa.Table:
    """Rows of a plan as a shard keeps them: one level, by class, then sorted by key."""
    places = range(start, start + count)
    keys = [hashlib.sha256(f"{level} {place}".encode()).hexdigest()[:32] for place in places]
    labels = [place * num_labels // total for place in places]
    table = pa.table([keys, labels, [level] * count, [key * 4 for key in keys]], schema=SCHEMA)
    return table.sort_by("key")


def shards_of(levels: tuple[int, ...], total: int, size: int) -> list[pa.Table]:
    return [
        rows_of(level, start, min(size, total - start), total)
        for level in levels
        for start in range(0, total, size)
    ]


def parts_of(folder: Path, tables: list[pa.Table]) -> list[Part]:
    parts = []
    for index, table in enumerate(tables):
        write_table(table_path(folder, f"s{index}"), table)
        parts.append(
            shard_part(table_path(folder, f"s{index}"), lambda table=table: table)  # type: ignore[misc]
        )
    return parts


@pytest.mark.parametrize("size", [7, 100, 1000])
def test_streamed_rows_give_the_bytes_of_the_sorted_table(tmp_path: Path, size: int) -> None:
    tables = shards_of((60, 20), 500, size)
    tables[1] = tables[1].append_column("score_b", pa.array([0.5] * tables[1].num_rows))
    tables[0] = tables[0].append_column("score_a", pa.array([1.5] * tables[0].num_rows))
    commit_manifest(tmp_path / "whole.parquet", tables)
    shuffled = [tables[i] for i in np.random.default_rng(0).permutation(len(tables))]
    assert write_sorted(tmp_path / "streamed.parquet", parts_of(tmp_path, shuffled)) == 1000
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "streamed.parquet").read_bytes() == whole
    assert write_sorted(tmp_path / "again.parquet", file_parts(tmp_path / "streamed.parquet"))
    assert (tmp_path / "again.parquet").read_bytes() == whole


def test_row_groups_end_where_those_of_the_sorted_table_do(tmp_path: Path) -> None:
    count = 2 * ROWS_PER_GROUP + 17
    tables = [rows_of(20, 0, count, count), rows_of(40, 0, 5, 5)]
    commit_manifest(tmp_path / "whole.parquet", tables)
    write_sorted(tmp_path / "streamed.parquet", parts_of(tmp_path, tables))
    written = (tmp_path / "streamed.parquet").read_bytes()
    assert written == (tmp_path / "whole.parquet").read_bytes()
    parts = file_parts(tmp_path / "streamed.parquet")
    assert [part.read().num_rows for part in parts] == [ROWS_PER_GROUP, ROWS_PER_GROUP, 22]
    assert next(part.first for part in parts) == (20, 0)
    assert write_sorted(tmp_path / "again.parquet", reversed(parts)) == count + 5
    assert (tmp_path / "again.parquet").read_bytes() == written


def test_a_key_of_two_parts_is_found_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    good = parts_of(tmp_path, shards_of((20,), 50, 10))
    write_sorted(path, good)
    before = path.read_bytes()
    twice = rows_of(20, 0, 50, 50)["key"][3].as_py()
    other = pa.table([[twice], [4], [90], [""]], schema=SCHEMA)
    with pytest.raises(DataError, match=f"the key '{twice}' occurs twice"):
        write_sorted(path, [*good, *parts_of(tmp_path, [other])])
    for wrong in (None, "short", "g" * 32, "ab " * 10 + "ab"):
        bad = pa.table([[wrong], [0], [20], [""]], schema=SCHEMA)
        with pytest.raises(DataError, match="key"):
            write_sorted(path, [*good, *parts_of(tmp_path, [bad])])
    text = SCHEMA.set(1, pa.field("label", pa.string()))
    typed = pa.table([["0" * 32], ["3"], [20], [""]], schema=text)
    with pytest.raises(DataError, match="do not fit together"):
        write_sorted(path, [*good, Part(first=(20, 0), schema=text, read=lambda: typed)])
    with pytest.raises(DataError, match="no rows"):
        write_sorted(path, [])
    with pytest.raises(DataError, match="missing or damaged"):
        file_parts(tmp_path / "none.parquet")
    assert path.read_bytes() == before
    assert not temporary_files(tmp_path)


def test_only_what_overlaps_is_in_memory(tmp_path: Path) -> None:
    """Forty classes of 8,000 rows; a row group of the file is eight of them."""
    total, size, labels = 320_000, 2_000, 40
    before, most = pa.total_allocated_bytes(), 0

    def part(start: int) -> Part:
        def read() -> pa.Table:
            nonlocal most
            most = max(most, pa.total_allocated_bytes() - before)
            return rows_of(20, start, size, total, labels)

        return Part(first=(20, start * labels // total), schema=SCHEMA, read=read)

    count = write_sorted(tmp_path / "rows.parquet", map(part, range(0, total, size)))
    assert count == total
    whole = read_manifest(tmp_path / "rows.parquet").nbytes
    # Two copies of the row group that waits, three of a class.
    assert most < whole * (2 * ROWS_PER_GROUP / total + 3 / labels)


KILLED = """
import sys, time
from pathlib import Path
from infra.storage.sorted_rows import Part, file_parts, write_sorted

path = Path(sys.argv[1])
parts = file_parts(path)

def read():
    print("half way", flush=True)
    time.sleep(600)

late = Part(first=(99, 0), schema=parts[0].schema, read=read)
write_sorted(path, [*parts, late])
"""


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_sorted(path, parts_of(tmp_path / "shards", shards_of((20,), 50, 10)))
    before = path.read_bytes()
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "half way\n"
        assert len(temporary_files(tmp_path)) == 1
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(30)
    assert path.read_bytes() == before
    assert len(remove_temporary(tmp_path)) == 1
    assert read_manifest(path).num_rows == 50
