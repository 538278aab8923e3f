"""A run as a job of a Ray cluster that asks for a token: followed, listed, stopped."""

import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from infra.jobs.verify import verify
from infra.storage.runs import RunStore
from tests.support.scrape import free_port
from tests.support.tiny_run import tiny_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
SMALL = ("workers.count=1", "training.seeds=1", "compare={}")


@dataclass(frozen=True)
class Cluster:
    """A head in processes of its own, and what a shell that talks to it has set."""

    address: str
    folder: Path
    shell: Mapping[str, str]

    def discl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "infra.cli", *words, "--address", self.address]
        where: dict[str, Any] = {"env": self.shell, "cwd": self.folder}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **where)

    def config(self, *changes: str) -> str:
        text = yaml.safe_dump(tiny_data(*SMALL, *changes))
        (self.folder / "tiny.yaml").write_text(text)
        return "tiny.yaml"

    def written(self, job: str) -> str:
        logs = (self.folder / "ray").glob(f"session_2*/logs/job-driver-{job}.log")
        return "".join(path.read_text() for path in logs)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head`, with token authentication."""
    folder = tmp_path_factory.mktemp("jobs")
    # The system wants short paths of sockets.
    sockets = tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True)
    (folder / "ray").symlink_to(sockets.name)
    (folder / "token").write_text("0123456789abcdef" * 3)
    shell = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "RAY_USAGE_STATS_ENABLED": "0",
        "COLUMNS": "300",
    }
    ports = [free_port() for _ in range(3)]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
    command += ["--num-cpus=2", "--node-ip-address=127.0.0.1", f"--temp-dir={sockets.name}"]
    command += [f"--port={ports[0]}", f"--dashboard-port={ports[1]}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-agent-listen-port={ports[2]}"]
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            command, env=shell, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    made = Cluster(f"http://127.0.0.1:{ports[1]}", folder, shell)
    deadline = time.monotonic() + 120
    try:
        while made.discl("jobs", "list").returncode:
            assert head.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(1)
        yield made
    finally:
        head.terminate()  # ends its cluster
        try:
            head.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        sockets.cleanup()


def read_along(store: RunStore) -> list[tuple[str, bool]]:
    """Keys in the order read by the example, and whether the manifest was there by then."""
    follow = runpy.run_path(str(ROOT / "examples" / "follow_run.py"))["follow"]
    return [(found["__key__"], store.manifest.exists()) for found in follow(str(store.root), 0.2)]


def test_a_run_is_submitted_followed_read_along_and_known_afterwards(cluster: Cluster) -> None:
    store = RunStore(cluster.folder / "output")
    config = cluster.config()
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read_along, store)
        done = cluster.discl("submit", config, "-o", str(store.root), "--shared-disk")
        assert done.returncode == 0, done.stdout + done.stderr
        read = reading.result(30)
    rows = pq.read_table(store.manifest).to_pylist()
    assert sorted(key for key, _ in read) == sorted(r["key"] for r in rows if r["member"])
    assert not all(finished for _, finished in read)
    assert "train classifiers: done" in done.stdout
    assert "SUCCEEDED, exit code 0" in done.stderr
    assert store.result.exists()
    assert verify(store).problems == []

    (job,) = re.findall(r"job (raysubmit_\w+) on", done.stderr)
    listed = cluster.discl("jobs", "list").stdout
    assert re.search(rf"{job} +SUCCEEDED .* digits +{re.escape(str(store.root))}", listed)
    status = cluster.discl("jobs", "status", job).stdout
    assert "SUCCEEDED, exit code 0" in status
    assert "discl run tiny.yaml --output" in status


def test_a_mistake_ends_the_job_with_its_own_exit_code(cluster: Cluster) -> None:
    config = cluster.config("data.source={name: folder, path: /no/such/images}")
    done = cluster.discl("submit", config, "-o", str(cluster.folder / "no"), "--shared-disk")
    assert done.returncode == 2
    assert "/no/such/images" in done.stdout

    without = {name: value for name, value in cluster.shell.items() if "RAY_AUTH" not in name}
    refused = Cluster(cluster.address, cluster.folder, without).discl("jobs", "list")
    assert refused.returncode == 2
    assert "RAY_AUTH_TOKEN" in refused.stderr
    unknown = cluster.discl("jobs", "status", "raysubmit_none")
    assert unknown.returncode == 2
    assert "discl jobs list" in unknown.stderr


def test_a_job_that_is_stopped_says_so(cluster: Cluster) -> None:
    config = cluster.config("training.epochs=4000")
    words = ("submit", config, "-o", str(cluster.folder / "stopped"), "--shared-disk")
    job = cluster.discl(*words, "--no-follow").stdout.strip()
    deadline = time.monotonic() + 120
    while "starting" not in cluster.written(job):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "stopping" in cluster.discl("jobs", "stop", job).stdout
    followed = cluster.discl("jobs", "follow", job)
    assert followed.returncode == 130
    assert "starting" in followed.stdout
    assert f"{job}: STOPPED" in followed.stderr
    assert "not at work" in cluster.discl("jobs", "stop", job).stdout
