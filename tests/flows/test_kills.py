"""Whole commands with a Ray and a Prefect server of their own: stopped, continued, finished.

Kills are in tests/chaos.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from infra.storage.runs import RunStore
from tests.support.commands import TIMEOUT, start_discl
from tests.support.tiny_run import shard_bytes, tiny_data

pytestmark = pytest.mark.slow

# Enough images that a kill in the middle of the generation hits it in the middle.
CHANGES = (
    "generation.target={per_class: 60}",
    "generation.num_inference_steps=10",
    "workers={kind: ray, count: 2, threads: 1}",
)


class Command:
    """`discl generate` on a config file, in a process of its own."""

    def __init__(self, folder: Path, output: Path, *options: str) -> None:
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(tiny_data(*CHANGES)))
        words = ["generate", str(config), "--output", str(output), *options]
        self.process = start_discl(*words, stdout=subprocess.PIPE)
        self.store = RunStore(output)

    def wait(self) -> str:
        """Its output; fails unless it ended well."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, output
        return output

    def shards(self) -> int:
        """Synthetic shards that are complete."""
        return len(list(self.store.generated.glob("*.parquet")))

    def wait_for_shards(self, count: int) -> None:
        """Returns when that many are."""
        deadline = time.monotonic() + TIMEOUT
        while self.shards() < count:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_orphans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No Prefect server of these tests outlives its run."""
    yield
    here = str(tmp_path_factory.getbasetemp())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        mine = [p for p in psutil.process_iter() if _is_server_below(p, here)]
        if not mine:
            return
        time.sleep(0.5)
    pytest.fail(f"Prefect servers were left: {mine}")


def test_stopped_on_two_workers_and_continued_on_one_with_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = Command(tmp_path, tmp_path / "undisturbed")
    undisturbed.wait()
    first = Command(tmp_path, tmp_path / "output")
    first.wait_for_shards(2)
    os.killpg(first.process.pid, signal.SIGTERM)  # Ray and its workers get it too
    output, _ = first.process.communicate(timeout=60)
    assert first.process.returncode == 130, output
    assert "continues" in output
    made = first.shards()
    second = Command(tmp_path, tmp_path / "output", "--set", "workers.count=1")
    second.wait()
    assert made < second.shards() / 2  # most are the one worker's
    assert shard_bytes(second.store) == shard_bytes(undisturbed.store)


def test_whole_run_with_ray_and_a_finished_one(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_data()))
    command = [sys.executable, "-m", "infra.cli", "run", str(config), "-o", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"baseline .*\n.*curriculum .*\[[-+.\d]+, [-+.\d]+\]", first.stdout)
    assert f"report: {tmp_path / 'run' / 'report' / 'index.html'}" in first.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["images"]["requested"] == 3 * 8 * 7
    said = first.stdout + first.stderr
    assert all(f"starting {what}" in said for what in ("the local Prefect server", "ray workers"))
    started = time.monotonic()
    second = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert second.returncode == 0
    assert "nothing was done again" in second.stdout
    assert "starting" not in second.stdout + second.stderr  # neither Prefect nor Ray is
    assert time.monotonic() - started < 20


def _is_server_below(process: psutil.Process, folder: str) -> bool:
    """Not one that other tests started and still use: that is this process's own child."""
    try:
        home, parent = process.environ().get("PREFECT_HOME", ""), process.ppid()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
    mine = home.startswith(folder) and parent != os.getpid()
    return mine and "infra.prefect_server" in _command_line(process)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return []
