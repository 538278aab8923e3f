"""A data set that grows: only what is missing is generated, and every version can be read."""

import json
import shutil
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from typer.testing import CliRunner

from generators.errors import ConfigError, DataError
from infra.cli.app import app
from infra.errors import WorkerError
from infra.jobs.dataset import select
from infra.jobs.top_up import new_images
from infra.jobs.verify import verify
from infra.storage.atomic import write_table
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import ShardReader
from infra.storage.versions import versions
from infra.workers.base import Progress
from tests.infra.jobs.world import config_for, write_images

CHANGES = ("workers.kind=local", "generation.levels=[0, 50]", "generation.target={per_class: 9}")


def top_up(folder: Path, output: Path, *changes: str, **budget: int) -> Any:
    """Final state of the flow."""
    from flows.top_up import top_up

    config = config_for(folder, *CHANGES, *changes)
    return top_up(config, str(output), return_state=True, **budget)


def keys(table: pa.Table) -> set[str]:
    return set(table["key"].to_pylist())


def check_versions(store: RunStore, tables: Sequence[pa.Table]) -> None:
    """Every version is kept, and its images are where it says; one that is wrong is found."""
    assert list(versions(store)) == [1, 2, 3]
    for table, path in zip(tables, versions(store).values(), strict=True):
        kept = read_manifest(path)
        assert kept.equals(table)
        with ShardReader(store.generated) as reader:
            for row in kept.to_pylist():
                assert reader.read(row["shard"], row["offset"], row["size"])[1:4] == b"PNG"
    info = json.loads((store.generated / "_info.json").read_text())
    assert sum(info["splits"]["train"]["shard_lengths"]) >= 2 * 18
    assert verify(store).problems == []
    moved = tables[2].column("offset").combine_chunks()
    at = tables[2].schema.get_field_index("offset")
    write_table(store.manifest, tables[2].set_column(at, "offset", pc.add(moved, 512)))
    assert {problem.code for problem in verify(store).problems} == {"other_rows"}


@pytest.mark.slow
def test_a_data_set_that_grows(prefect_harness: None, tmp_path: Path) -> None:
    data, store = tmp_path / "data", RunStore(tmp_path / "out")
    write_images(data, {"across": 12, "rare": 4, "upright": 4})

    # Two hard classes: of each, 9 images at 2 levels are missing; the budget allows 10.
    first = top_up(data, store.root, budget_images=10)
    assert first.result() == {"images": 10, "missing": 26, "version": 1}
    tables = [read_manifest(store.manifest)]
    seeds = sorted(tables[0]["seed"].to_pylist())
    assert set(tables[0]["image_guidance"].to_pylist()) == {0, 50}
    # 3 of the 4 images are for training: all of seed 0 at both levels comes before seed 1
    assert seeds[:6] == [0] * 6
    store.result.write_text("{}")  # as a finished run leaves it

    rest = top_up(data, store.root)
    assert rest.result() == {"images": 26, "missing": 0, "version": 2}
    tables.append(read_manifest(store.manifest))
    assert not store.result.exists()
    assert keys(tables[0]) < keys(tables[1])

    stamps = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.*")}
    nothing = top_up(data, store.root)
    assert nothing.result() == {"images": 0, "missing": 0, "version": 2}
    assert "nothing new, manifest version 2" in nothing.message
    after = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.*")}
    changed = {path.name for path, stamp in after.items() if stamps.get(path) != stamp}
    assert changed <= {"config.yaml", "stages.json", "run.lock"}

    # A new image of the rare class is for training, is multiplied, and no other is ingested again.
    real = read_manifest(store.real_manifest)
    shutil.copy(data / "rare" / "000.png", data / "rare" / "new.png")
    grown = top_up(data, store.root)
    assert grown.result()["version"] == 3
    now = read_manifest(store.real_manifest)
    assert now.num_rows == real.num_rows + 1
    known = {row["origin"]: (row["split"], row["shard"]) for row in now.to_pylist()}
    assert known.pop("rare/new.png")[0] == "train"
    assert known == {row["origin"]: (row["split"], row["shard"]) for row in real.to_pylist()}
    tables.append(read_manifest(store.manifest))
    added = tables[2].filter(pc.invert(pc.is_in(tables[2]["key"], pa.array(keys(tables[1])))))
    (source,) = set(added["source_key"].to_pylist())
    assert now.filter(pc.equal(now["key"], source))["origin"].to_pylist() == ["rare/new.png"]
    assert grown.result()["images"] == added.num_rows == 2 * 2  # seeds 0 and 1 of 9 by 4
    assert tables[2].num_rows == 2 * 18

    # A class that has left the tail gets nothing more, and keeps what it has; so does the last.
    for name in ("rare", "upright"):
        for index in range(3):
            shutil.copy(data / name / f"00{index}.png", data / name / f"more{index}.png")
        assert top_up(data, store.root).result() == {"images": 0, "missing": 0, "version": 3}
    assert read_manifest(store.manifest).equals(tables[2])
    counts = Counter(read_manifest(store.real_manifest)["class_name"].to_pylist())
    assert counts == {"across": 12, "rare": 8, "upright": 7}

    check_versions(store, tables)


def test_what_would_change_earlier_images_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path)
    config = config_for(
        tmp_path,
        "data.long_tail={profile: {name: exponential, imbalance_factor: 4}, max_count: 6}",
    )
    real = pa.table({"origin": ["a"], "label": [1], "class_name": ["another"]})
    with pytest.raises(DataError, match="class 1 was 'another' and is 'rare' now"):
        new_images(config, select(config.data), real)
    with pytest.raises(ConfigError, match=r"data\.long_tail"):
        new_images(config, select(config.data), real.slice(0, 0))


@pytest.mark.slow
def test_a_generator_of_the_images_themselves_is_refused(
    prefect_harness: None, tmp_path: Path
) -> None:
    write_images(tmp_path / "data")
    changes = "generation.backbone=null", "generation.fit={steps: 5}"
    with pytest.raises(ConfigError, match=r"generation\.fit: .*give a `backbone`"):
        top_up(tmp_path / "data", tmp_path / "out", *changes).result()
    changes = "generation={}", "curriculum={schedule: none}", "compare={}"
    with pytest.raises(ConfigError, match=r"generation\.levels: \[\] .*at least one level"):
        top_up(tmp_path / "data", tmp_path / "real", *changes).result()


@pytest.mark.slow
def test_a_budget_of_model_evaluations(prefect_harness: None, tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    # level 0 runs 4 steps, level 50 runs 2, each with two evaluations
    state = top_up(tmp_path / "data", tmp_path / "out", budget_evaluations=2 * (4 + 2) + 7)
    assert state.result()["images"] == 2
    spent = read_manifest(tmp_path / "out" / "manifest.parquet")["num_model_calls"].to_pylist()
    assert sum(spent) <= 19
    with pytest.raises(ConfigError, match="budget_images: 0 is not allowed"):
        top_up(tmp_path / "data", tmp_path / "out", budget_images=0).result()


def dies(*_: Any) -> Generator[Progress, None, None]:
    yield Progress(done=0, total=1)
    raise WorkerError("out of memory")


@pytest.mark.slow
def test_shards_that_were_given_up_are_said_at_the_end(
    prefect_harness: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "data")
    monkeypatch.setattr("tasks.generate.generate_shards", dies)
    last_try = "workers.retries=0"
    state = top_up(tmp_path / "data", tmp_path / "out", last_try, budget_images=2)
    assert state.name == "CompletedWithFailures"
    assert "were given up (2 images), the last with: out of memory" in state.message

    config = config_for(tmp_path / "data", *CHANGES, last_try).model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["top-up", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "out")]
    again = CliRunner().invoke(app, [*words, "--budget-images", "2"])
    assert again.exit_code == 3, again.output
    assert "completed with failures" in again.output
