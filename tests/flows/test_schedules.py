"""Runs that nobody starts, by a schedule without a worker; slots that a killed run has held."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.jobs.verify import verify
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from infra.storage.versions import versions
from tests.infra.jobs.world import config_for, write_images
from tests.support.prefect_api import Api

pytestmark = pytest.mark.slow

EVERY_20_SECONDS = "* * * * * */20"
CHANGES = ("workers.kind=local", "generation.levels=[0, 50]")


def write_config(folder: Path, *changes: str) -> Path:
    write_images(folder / "data")
    path = folder / "grown.yaml"
    config = config_for(folder / "data", *CHANGES, *changes)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def active_slots(api: Api) -> int:
    slots: int = api.ask("/v2/concurrency_limits/gpus")["active_slots"]
    return slots


@contextmanager
def generating(api: Api, folder: Path, *changes: str) -> Iterator[subprocess.Popen[str]]:
    """A run that needs the one slot of a limit."""
    path = write_config(folder, "workers.pool_limit=gpus", "filter.judges=[]", *changes)
    command = ["infra.cli", "generate", str(path), "--output", str(folder / "out")]
    with api.started(*command, cwd=folder) as process:
        yield process


@pytest.fixture(scope="module")
def waiting(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A run that waits for the slot of another, which was killed while it was generating."""
    api.call("prefect", "gcl", "create", "gpus", "--limit", "1")
    killed, second = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("second")
    with generating(api, killed, "generation.target={per_class: 100000}") as process:
        deadline = time.monotonic() + 120
        while not list((killed / "out" / "shards").glob("g*.tar")):
            assert process.poll() is None, (killed / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert active_slots(api) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    with generating(api, second) as process:
        yield process, second


def test_a_schedule_tops_up_what_is_new(waiting: Any, api: Api, tmp_path: Path) -> None:
    path = write_config(tmp_path, "generation.target={per_class: 9}")
    data, store = tmp_path / "data", RunStore(tmp_path / "out")
    command = ["infra.cli", "serve", str(path), "--flow", "top-up", "--cron", EVERY_20_SECONDS]
    with api.started(*command, "--output", str(store.root), cwd=tmp_path):
        first = api.wait_for("top-up", store.root)
        assert "18 new images, manifest version 1" in first["state"]["message"]
        shards = {path: path.stat().st_mtime_ns for path in store.generated.glob("g*.tar")}
        # A run that reads the folder just now may see the image, or not.
        shutil.copy(data / "rare" / "000.png", data / "rare" / "new.png")
        added = datetime.now(UTC).isoformat()
        while len(versions(store)) < 2:
            second = api.wait_for("top-up", store.root, added)
            added = second["start_time"]
    assert first["auto_scheduled"]
    assert second["auto_scheduled"]
    assert second["state_type"] == "COMPLETED"
    before, after = (read_manifest(path) for path in versions(store).values())
    known = set(before["key"].to_pylist())
    new = [row for row in after.to_pylist() if row["key"] not in known]
    assert len(new) == 4  # seeds 0 and 1 of the new image, at two levels
    assert shards == {path: path.stat().st_mtime_ns for path in shards}
    assert verify(store).problems == []


def test_slots_of_a_killed_run_come_back(waiting: Any, api: Api) -> None:
    """Its lease of a minute may have ended by now."""
    process, folder = waiting
    assert process.wait(timeout=150) == 0, (folder / "log.txt").read_text()
    assert read_manifest(RunStore(folder / "out").manifest).num_rows > 0
    assert active_slots(api) == 0
