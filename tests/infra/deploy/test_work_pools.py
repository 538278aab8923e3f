"""Base job templates of work pools: what Prefect takes, and jobs that Kubernetes takes."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.schema_tools import validate
from prefect.utilities.templating import apply_values, find_placeholders
from prefect.workers.process import ProcessJobConfiguration

DEPLOY = Path(__file__).parents[3] / "infra/deploy"
TYPES = {"kubernetes": "kubernetes", "ray_job": "process"}
KUBERNETES = "1.30"
GPU = {
    "image": "discl:0.1.0-cuda",
    "gpus": 2,
    "node_selector": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
    "service_account_name": "discl",
    "labels": {"team": "cameras"},
    "command": "prefect flow-run execute",
}


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / f"work_pools/{name}.json").read_text())
    return found


def variables(name: str) -> dict[str, Any]:
    found: dict[str, Any] = template(name)["variables"]["properties"]
    return found


def filled(name: str, **values: Any) -> dict[str, Any]:
    """The job configuration as a worker fills it in: defaults, then a deployment's variables."""
    defaults = {key: v["default"] for key, v in variables(name).items() if "default" in v}
    given = defaults | values
    validate(given, template(name)["variables"], raise_on_error=True)
    return apply_values(template(name)["job_configuration"], given)


def job(**values: Any) -> dict[str, Any]:
    """The Kubernetes job, ended as the worker ends it."""
    manifest: dict[str, Any] = filled("kubernetes", **values)["job_manifest"]
    pod = manifest["spec"]["template"]["spec"]
    # Prefect's worker refuses a job without these two; Kubernetes knows them elsewhere, and
    # leaves them out.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    (container,) = pod["containers"]
    assert container["name"] == "prefect-job"  # nor does it take another name
    container["args"] = shlex.split(container.get("args", "prefect flow-run execute"))
    return manifest


def pod(**values: Any) -> dict[str, Any]:
    spec: dict[str, Any] = job(**values)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", TYPES)
def test_prefect_takes_the_template(name: str) -> None:
    found = template(name)
    WorkPoolCreate(name="pool", type=TYPES[name], base_job_template=found)
    found["job_configuration"]["name"] = "{{ nmae }}"
    with pytest.raises(ValueError, match="nmae"):
        WorkPoolCreate(name="pool", type=TYPES[name], base_job_template=found)


@pytest.mark.parametrize("name", TYPES)
def test_every_variable_changes_something(name: str) -> None:
    used = {found.name for found in find_placeholders(template(name)["job_configuration"])}
    # Prefect itself adds `env` to a template that has variables of its own.
    assert used | {"env"} == variables(name).keys()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("kubernetes", {"gpus": "all"}), ("kubernetes", {"gpus": 0}), ("ray_job", {"env": "A=1"})],
)
def test_wrong_values_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"is not|less than"):
        filled(name, **wrong)


@pytest.mark.parametrize("values", [{}, GPU])
def test_jobs_are_what_kubernetes_takes(values: dict[str, Any]) -> None:
    wrong = job(**values)
    kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    wrong["spec"]["template"]["spec"]["containers"][0]["gpus"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_gpus_are_asked_for_and_what_is_not_set_is_left_out() -> None:
    (container,) = pod(**GPU)["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert "nvidia.com/gpu" in {entry["key"] for entry in pod(**GPU)["tolerations"]}
    plain = pod()
    assert {"nodeSelector", "serviceAccountName"}.isdisjoint(plain)
    assert plain["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}


def test_the_job_is_as_safe_as_a_pod_of_the_ray_cluster_and_has_its_secrets() -> None:
    cluster = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())
    theirs = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    ours = pod()
    for part in ("securityContext", "volumes", "automountServiceAccountToken"):
        assert ours[part] == theirs[part]
    (container,), (other,) = ours["containers"], theirs["containers"]
    for part in ("image", "securityContext", "volumeMounts"):
        assert container[part] == other[part]
    # Address and key of Prefect's API are the worker's, who adds them.
    known = [entry for entry in other["env"] if entry not in container["env"]]
    assert {entry["name"] for entry in known} <= {
        *("PREFECT_API_URL", "PREFECT_API_KEY", "RAY_USAGE_STATS_ENABLED")
    }
    (key, *_) = [
        entry for entry in pod(secret="mine")["containers"][0]["env"] if "value" not in entry
    ]
    assert key["valueFrom"]["secretKeyRef"]["name"] == "mine"


def test_the_ray_job_is_submitted_by_a_shell_that_understands_it() -> None:
    address = "https://ray.example:8265"
    found = ProcessJobConfiguration(**filled("ray_job", ray_address=address))
    assert found.env["RAY_API_SERVER_ADDRESS"] == address
    assert json.loads(found.env["RUNTIME_ENV"] or "").keys() == {"env_vars"}
    assert "CLUSTER_API_URL" not in found.env  # the worker's
    shell, option, script = shlex.split(found.command or "")
    assert (shell, option) == ("sh", "-c")
    subprocess.run(["sh", "-n", "-c", script], check=True, timeout=10)
    assert "cd \\$(mktemp -d)" in script  # Prefect copies the folder that a run is started in
    (patience,) = re.findall(r"sleep (\d+)", script)
    (stopping,) = json.loads(found.env["RUNTIME_ENV"] or "")["env_vars"].values()
    assert int(patience) + int(stopping) < 30 - 4  # then Prefect's worker kills the shell
