"""Flow runs of a work pool as jobs of a Ray cluster: run to their end, and cancelled."""

import re
import time
from pathlib import Path

import pytest
import yaml

from infra.storage.runs import RunStore
from tests.flows import test_jobs
from tests.support.prefect_api import ROOT, Api
from tests.support.tiny_run import tiny_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Cluster = test_jobs.Cluster
cluster = test_jobs.cluster  # a fixture


@pytest.fixture
def shell(api: Api, cluster: Cluster, tmp_path: Path) -> Api:
    """Knows the server and the cluster, and has a pool for both."""
    made = Api(api.url, tmp_path / "home")
    made.environment = {
        **cluster.shell,
        "PREFECT_API_URL": api.url,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    template = ROOT / "infra/deploy/work_pools/ray_job.json"
    options = ("--type", "process", "--base-job-template", str(template))
    made.call("prefect", "work-pool", "create", "ray-jobs", *options)
    return made


def started(shell: Api, cluster: Cluster, flow: str, output: Path, *changes: str) -> str:
    """Deploys a flow and starts it; gives the id of its run."""
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(tiny_data(*test_jobs.SMALL, *changes)))
    options = ("--flow", flow, "--name", output.name, "--pool", "ray-jobs", "-o", str(output))
    shell.call("infra.cli", "deploy", str(config), *options)
    options = ("--job-variable", f"ray_address={cluster.address}")
    shown = shell.call("prefect", "deployment", "run", f"{flow}/{output.name}", *options)
    (found,) = re.findall(r"UUID: ([0-9a-f-]{36})", shown)
    return str(found)


def wait_for(shell: Api, run: str, *states: str, log: Path) -> None:
    deadline = time.monotonic() + 150
    while (state := shell.ask(f"/flow_runs/{run}")["state_type"]) not in states:
        assert state not in {"FAILED", "CRASHED"}, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def job_of(cluster: Cluster, run: str) -> str:
    """Name and status of the job a flow run has become."""
    (found,) = re.findall(rf"(flow-run-{run}-\d+ +\w+)", cluster.discl("jobs", "list").stdout)
    return str(found)


def test_runs_are_jobs_of_the_cluster_and_end_when_they_are_cancelled(
    shell: Api, cluster: Cluster, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    with shell.started("prefect", "worker", "start", "--pool", "ray-jobs", cwd=tmp_path):
        store = RunStore(tmp_path / "set")
        made = started(shell, cluster, "generate", store.root)
        endless = started(shell, cluster, "run", tmp_path / "endless", "training.epochs=4000")
        wait_for(shell, made, "COMPLETED", log=log)
        assert store.manifest.is_file()
        wait_for(shell, endless, "RUNNING", log=log)
        assert job_of(cluster, endless).endswith("RUNNING")
        shell.call("prefect", "flow-run", "cancel", endless)
        wait_for(shell, endless, "CANCELLED", log=log)
        assert not job_of(cluster, endless).endswith("RUNNING")
    assert job_of(cluster, made).endswith("SUCCEEDED")
    print(log.read_text())
