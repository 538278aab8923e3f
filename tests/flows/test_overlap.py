"""Training while later levels are generated: another order of the work, the same result."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from infra.storage.runs import RunStore
from tests.support.commands import TIMEOUT, start_discl
from tests.support.tiny_run import shard_bytes, tiny_config, tiny_data


def outcome(store: RunStore) -> dict[str, Any]:
    """Everything a run ends with that must not depend on the order of the work."""
    result = json.loads(store.result.read_text())
    trained = {}
    for path in store.training.iterdir():
        stored = json.loads((path / "result.json").read_text())
        del stored["seconds"]
        weights = (path / "classifier.safetensors").read_bytes()
        trained[path.name] = (weights, stored, sorted(file.name for file in path.iterdir()))
    return {
        "shards": shard_bytes(store),
        "manifest": store.manifest.read_bytes(),
        "levels": {path.name: path.read_bytes() for path in store.levels.iterdir()},
        "trained": trained,
        "arms": result["arms"],
        "gains": result["gains"],
        "images": result["images"],
    }


def assert_equal(ours: dict[str, Any], others: dict[str, Any]) -> None:
    """Says which part differs instead of printing megabytes."""
    for name, part in ours.items():
        if isinstance(part, dict):
            assert part.keys() == others[name].keys(), name
            assert [key for key in part if part[key] != others[name][key]] == [], name
        assert part == others[name], name


def weights_of(store: RunStore) -> dict[Path, bytes]:
    """Files of all trained classifiers and generators."""
    return {
        path.relative_to(store.root): path.read_bytes()
        for path in store.root.rglob("*.safetensors")
    }


def task_names() -> list[str]:
    """Names of all task runs on the Prefect server of these tests."""
    from prefect.client.orchestration import get_client

    found: list[str] = []
    with get_client(sync_client=True) as client:
        while page := client.read_task_runs(limit=200, offset=len(found)):
            found += [task.name for task in page]
    return found


@pytest.mark.slow
def test_overlap_gives_the_same_metrics_weights_and_files(
    finished_run: RunStore, tmp_path: Path
) -> None:
    from flows.run import run

    config = tiny_config()
    store = RunStore(tmp_path / "overlap")
    before = [name for name in task_names() if " to epoch " in name]
    run(config, str(store.root), overlap=True)
    assert_equal(outcome(store), outcome(finished_run))
    cut = [name for name in task_names() if " to epoch " in name]
    assert before == []
    assert any(name.startswith("curriculum-seed") for name in cut)  # it did overlap
    stages = [name for name, *_ in json.loads(store.stages.read_text())]
    assert stages.index("train judge") == stages.index("read real images") + 1
    assert {"generate", "judge", "train classifiers", "write report"} < set(stages)


@pytest.mark.slow
def test_overlap_continues_a_run_that_was_not_and_the_other_way_round(
    finished_run: RunStore, tmp_path: Path
) -> None:
    from flows.generate import generate
    from flows.train import train

    config = tiny_config()
    store = RunStore(tmp_path / "run")
    generate(config, str(store.root))
    assert not store.training.joinpath("result.json").exists()
    lost = [*store.generated.glob("g100-*.parquet"), store.manifest]
    for path in lost:
        path.unlink()
    assert train(config, str(store.root), overlap=True) == {"classifiers": 6}
    stamps = {path: path.stat().st_mtime_ns for path in store.training.rglob("*.json")}
    assert train(config, str(store.root)) == {"classifiers": 6}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    ours, others = weights_of(store), weights_of(finished_run)
    assert len(ours) == 6
    assert ours == others
    assert store.manifest.read_bytes() == finished_run.manifest.read_bytes()


@pytest.mark.slow
def test_only_levels_that_are_read_are_made_and_a_grown_run_copies_the_rest(
    finished_run: RunStore, tmp_path: Path
) -> None:
    """Two levels are listed and not read; then two of the classes are not hard any more."""
    from flows.generate import generate

    changes = ("curriculum={schedule: {name: fixed_stages, levels: [40]}}", "compare={}")
    config = tiny_config(*changes, "hard_set.threshold=8")
    store = RunStore(tmp_path / "run")
    made = generate(config, str(store.root), reuse=[str(finished_run.root)])
    rows = pq.read_table(store.manifest)
    assert made == {"images": rows.num_rows} == {"images": 8 * 4}  # the four `few` classes
    assert set(rows["image_guidance"].to_pylist()) == {40}
    costs = [json.loads(path.read_text()) for path in store.generated.glob("*.cost.json")]
    assert [cost["num_model_calls"] for cost in costs] == [0] * len(costs)  # all were copied
    alone = RunStore(tmp_path / "alone")
    generate(config, str(alone.root))
    assert shard_bytes(alone) == shard_bytes(store)
    assert alone.manifest.read_bytes() == store.manifest.read_bytes()


@pytest.mark.slow
def test_overlap_works_where_nothing_can_overlap(prefect_harness: None, tmp_path: Path) -> None:
    from flows.train import train

    changes = (
        "generation.backbone=null",
        "generation.fit={steps: 20, batch_size: 16, block_out_channels: [8, 16]}",
        "hard_set={name: low_confidence, fraction: 0.2}",
        "generation.target={factor: 0.5}",
        "generation.levels=[0, 60]",
        "filter.judges=[]",
    )
    stores = {overlap: RunStore(tmp_path / str(overlap)) for overlap in (True, False)}
    for overlap, store in stores.items():
        train(tiny_config(*changes), str(store.root), overlap=overlap)
    ours, others = (weights_of(store) for store in stores.values())
    assert len(ours) > 4
    assert ours == others


@pytest.mark.slow
def test_killed_while_generation_and_training_overlap(tmp_path: Path) -> None:
    changes = ("generation.target={per_class: 60}", "generation.num_inference_steps=10")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_data(*changes, "workers.kind=local")))
    undisturbed = RunStore(tmp_path / "undisturbed")
    command(config, undisturbed).communicate(timeout=TIMEOUT)
    store = RunStore(tmp_path / "killed")
    for _ in range(2):
        process = command(config, store, "--overlap")
        wait_until(lambda: bool(list(store.training.glob("curriculum-*/checkpoint.pt"))), process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT)
        assert not store.manifest.exists()
        assert not store.result.exists()
    process = command(config, store, "--overlap")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert_equal(outcome(store), outcome(undisturbed))


def command(config: Path, store: RunStore, *options: str) -> subprocess.Popen[str]:
    """The command of a run, as a process group of its own."""
    words = ["run", str(config), "-o", str(store.root), *options]
    return start_discl(*words, stdout=subprocess.PIPE)


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    """Waits for something a process does."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
