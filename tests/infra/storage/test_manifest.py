import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generators.errors import DataError
from generators.records import GenerationRequest, SampleRecord
from generators.registry import MethodSpec
from infra.storage.manifest import (
    GENERATED_SCHEMA,
    apply_scores,
    commit_manifest,
    read_manifest,
    record_rows,
    records_from_rows,
)
from infra.storage.shards import read_rows, write_shard
from tests.infra.storage.samples import member


def request(index: int, level: int = 40, label: int = 3) -> GenerationRequest:
    return GenerationRequest(
        source_key=f"digit-{index}",
        source_sha256="ab" * 32,
        label=label,
        class_name="drei ü",
        prompt='a "3"',
        image_guidance=level,
        seed=2**62,
        num_inference_steps=20,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": 2.5, "ends": [0.1, 1.0]}),
        sampler=MethodSpec(name="ddim"),
        backbone="f" * 64,
    )


def record(index: int, level: int = 40, label: int = 3, **changes: object) -> SampleRecord:
    made = request(index, level, label)
    base = SampleRecord(key=made.key, request=made, num_model_calls=24, status="ok")
    return replace(base, **changes)  # type: ignore[arg-type]


def test_records_survive_a_parquet_file(tmp_path: Path) -> None:
    records = [
        record(0),
        record(1, status="failed", reason="unreadable_image", num_model_calls=0),
        record(2, status="filtered", reason="low_probability"),
    ]
    rows = record_rows(records)
    assert rows.schema == GENERATED_SCHEMA
    pq.write_table(rows, tmp_path / "rows.parquet")
    again = records_from_rows(pq.read_table(tmp_path / "rows.parquet"))
    assert again == records
    assert [item.request.key for item in again] == [item.key for item in records]
    row = rows.to_pylist()[0]
    assert json.loads(row["guidance"]) == {"name": "cfg", "guidance_scale": 2.5, "ends": [0.1, 1.0]}
    assert json.loads(row["sampler"]) == {"name": "ddim"}
    assert (row["seed"], row["image_guidance"], row["class_name"]) == (2**62, 40, "drei ü")
    assert record_rows([]).schema == GENERATED_SCHEMA


def test_scores_become_columns_and_decisions_statuses() -> None:
    records = [record(0), record(1), record(2, status="failed", reason="nan"), record(3)]
    keys = [item.key for item in records]
    scores = pa.table({"key": [keys[1], keys[0]], "classifier": [0.25, 0.75]})
    decisions = {keys[0]: "", keys[1]: "low_probability", keys[2]: "low_probability"}
    rows = apply_scores(record_rows(records), scores, decisions)
    assert rows.column("score_classifier").to_pylist() == [0.75, 0.25, None, None]
    assert rows.column("status").to_pylist() == ["ok", "filtered", "failed", "ok"]
    assert rows.column("reason").to_pylist() == ["", "low_probability", "nan", ""]
    assert [dict(item.scores) for item in records_from_rows(rows)] == [
        {"classifier": 0.75},
        {"classifier": 0.25},
        {},
        {},
    ]
    assert rows.schema.names == [*GENERATED_SCHEMA.names, "score_classifier"]

    later = pa.table({"key": [keys[1]], "classifier": [0.9], "similarity": [0.5]})
    rows = apply_scores(rows, later, {keys[1]: ""})
    assert rows.column("score_classifier").to_pylist() == [0.75, 0.9, None, None]
    assert rows.column("score_similarity").to_pylist() == [None, 0.5, None, None]
    assert rows.column("status").to_pylist() == ["ok", "ok", "failed", "ok"]
    assert rows.column("reason").to_pylist() == ["", "", "nan", ""]


def test_scores_of_unknown_images_are_refused() -> None:
    rows = record_rows([record(0)])
    key = record(0).key
    with pytest.raises(DataError, match="'stranger'"):
        apply_scores(rows, pa.table({"key": ["stranger"], "a": [1.0]}), {})
    with pytest.raises(DataError, match="'stranger'"):
        apply_scores(rows, pa.table({"key": [key], "a": [1.0]}), {"stranger": ""})
    with pytest.raises(DataError, match="occurs twice"):
        apply_scores(rows, pa.table({"key": [key, key], "a": [1.0, 2.0]}), {})


def shard_rows(folder: Path, name: str, records: list[SampleRecord]) -> pa.Table:
    made = [member(i, key=item.key) for i, item in enumerate(records) if item.status == "ok"]
    write_shard(folder, name, made, record_rows(records))
    return read_rows(folder, name)


def test_manifest_is_sorted_and_independent_of_how_shards_came(tmp_path: Path) -> None:
    first = [record(i, level, label) for i, level, label in ((0, 80, 1), (1, 0, 9), (2, 80, 0))]
    second = [record(3, 80, 0), record(4, 0, 2, status="failed", reason="nan")]
    one = shard_rows(tmp_path, "one", first)
    two = shard_rows(tmp_path, "two", second)
    two = apply_scores(two, pa.table({"key": [second[0].key], "b": [0.5], "a": [1.0]}), {})
    table = commit_manifest(tmp_path / "1.parquet", [one, two])
    commit_manifest(tmp_path / "2.parquet", iter([two.select(two.column_names[::-1]), one]))
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert read_manifest(tmp_path / "1.parquet").equals(table)

    rows = table.to_pylist()
    sorting = [(row["image_guidance"], row["label"], row["key"]) for row in rows]
    assert sorting == sorted(sorting)
    assert [place[:2] for place in sorting] == [(0, 2), (0, 9), (80, 0), (80, 0), (80, 1)]
    names = table.column_names
    assert names[: len(GENERATED_SCHEMA)] == GENERATED_SCHEMA.names
    assert names[len(GENERATED_SCHEMA) :] == [
        "member",
        "offset",
        "shard",
        "shard_sha256",
        "size",
        "score_a",
        "score_b",
    ]
    scored = {row["key"]: row["score_b"] for row in rows}
    assert scored == {item.key: None for item in [*first, *second]} | {second[0].key: 0.5}
    assert sorted(row["shard"] for row in rows) == ["one"] * 3 + ["two"] * 2


def test_manifest_of_other_rows_has_its_own_order(tmp_path: Path) -> None:
    rows = pa.table({"key": ["b", "a", "c"], "split": ["val", "train", "train"]})
    table = commit_manifest(tmp_path / "real.parquet", [rows], order=("split", "key"))
    assert table.column("key").to_pylist() == ["a", "c", "b"]


def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    rows = record_rows([record(0)])
    with pytest.raises(DataError, match=f"'{record(0).key}' occurs twice"):
        commit_manifest(path, [rows, record_rows([record(1), record(0)])])
    with pytest.raises(DataError, match="no rows"):
        commit_manifest(path, [])
    wrong = rows.set_column(3, "label", pa.array(["three"]))
    with pytest.raises(DataError, match="do not fit together"):
        commit_manifest(path, [rows, wrong])
    with pytest.raises(DataError, match="missing or damaged"):
        read_manifest(path)
    assert list(tmp_path.iterdir()) == []
    commit_manifest(path, [rows.slice(0, 0)])
    assert read_manifest(path).num_rows == 0
