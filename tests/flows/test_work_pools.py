"""Work pools of the templates in infra/deploy/work_pools, on a real server.

Flow runs as jobs of a Ray cluster come to their end, and are cancelled. Of the Kubernetes pool all
but the cluster is there.
"""

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


def create(shell: Api, pool: str, kind: str, template: str) -> None:
    path = ROOT / f"infra/deploy/work_pools/{template}.json"
    options = ("--type", kind, "--base-job-template", str(path))
    shell.call("prefect", "work-pool", "create", pool, *options)


def start(shell: Api, pool: str, flow: str, output: Path, *variables: str) -> str:
    """Deploys a flow for a pool and starts it; gives the id of its run."""
    config = output.with_suffix(".yaml")
    endless = ["training.epochs=4000"] if flow == "run" else []
    config.write_text(yaml.safe_dump(tiny_data(*test_jobs.SMALL, *endless)))
    options = ("--flow", flow, "--name", output.name, "--pool", pool, "-o", str(output))
    shell.call("infra.cli", "deploy", str(config), *options)
    given = [word for variable in variables for word in ("--job-variable", variable)]
    shown = shell.call("prefect", "deployment", "run", f"{flow}/{output.name}", *given)
    (found,) = re.findall(r"UUID: ([0-9a-f-]{36})", shown)
    return str(found)


def wait_for(shell: Api, run: str, wanted: str, log: Path) -> None:
    deadline = time.monotonic() + 150
    while (state := shell.ask(f"/flow_runs/{run}")["state_type"]) != wanted:
        assert state not in {"COMPLETED", "CANCELLED", "FAILED", "CRASHED"}, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def status(cluster: Cluster, run: str) -> str:
    """Of the one job a flow run has become."""
    (found,) = re.findall(rf"flow-run-{run}-\d+ +(\w+)", cluster.discl("jobs", "list").stdout)
    return str(found)


def test_runs_are_jobs_of_the_cluster_and_end_when_they_are_cancelled(
    api: Api, cluster: Cluster, tmp_path: Path
) -> None:
    shell = Api(api.url, tmp_path / "home")
    shell.environment = {  # of one who knows both
        **{name: text for name, text in cluster.shell.items() if name[:7] != "PREFECT"},
        **{name: text for name, text in shell.environment.items() if name[:7] == "PREFECT"},
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    create(shell, "ray-jobs", "process", "ray_job")
    address, log = f"ray_address={cluster.address}", tmp_path / "log.txt"
    output = tmp_path / "set"
    with shell.started("prefect", "worker", "start", "--pool", "ray-jobs", cwd=tmp_path):
        made = start(shell, "ray-jobs", "generate", output, address)
        endless = start(shell, "ray-jobs", "run", tmp_path / "endless", address)
        wait_for(shell, endless, "RUNNING", log)
        shell.call("prefect", "flow-run", "cancel", endless)
        wait_for(shell, made, "COMPLETED", log)
        wait_for(shell, endless, "CANCELLED", log)
        # It was told and ended itself; on a machine too busy for that it was stopped soon after.
        assert status(cluster, endless) in {"SUCCEEDED", "STOPPED"}
    assert status(cluster, made) == "SUCCEEDED"
    assert RunStore(output).manifest.is_file()
    assert "generate: done" in log.read_text()


def test_a_kubernetes_pool_takes_deployments_and_their_variables(api: Api, tmp_path: Path) -> None:
    create(api, "pods", "kubernetes", "kubernetes")
    variables = ("gpus=1", "image=discl:0.1.0-cuda")
    run = start(api, "pods", "generate", tmp_path / "set", *variables)
    found = api.ask(f"/flow_runs/{run}")
    assert found["job_variables"] == {"gpus": 1, "image": "discl:0.1.0-cuda"}
    assert found["work_pool_name"] == "pods"
