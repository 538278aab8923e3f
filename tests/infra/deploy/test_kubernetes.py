"""KubeRay manifests: fields that exist, pods that Kubernetes takes, and what we promise of them."""

import copy
import importlib.metadata
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.infra.deploy.kuberay_fields import SCHEMAS

FOLDER = Path(__file__).parents[3] / "infra/deploy/kuberay"
KUBERNETES = "1.30"


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def cluster(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(name: str) -> dict[str, dict[str, Any]]:
    """Every group of pods by name."""
    found = cluster(name)
    return {
        "head": found["headGroupSpec"],
        **{group["groupName"]: group for group in found["workerGroupSpecs"]},
    }


def pod(group: dict[str, Any]) -> dict[str, Any]:
    template = copy.deepcopy(group["template"])
    metadata = {**template.get("metadata", {}), "name": "pod"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_manifests_have_only_fields_that_kuberay_knows() -> None:
    for name in ("raycluster", "rayjob"):
        found = manifest(name)
        schema = SCHEMAS[found["kind"]]
        jsonschema.validate(found, schema)
        found["spec"]["entryPoint"] = "discl run"
        with pytest.raises(jsonschema.ValidationError, match="entryPoint"):
            jsonschema.validate(found, schema)


def test_both_manifests_describe_the_same_cluster() -> None:
    assert cluster("raycluster") == cluster("rayjob")


def test_pods_are_what_kubernetes_takes() -> None:
    for group in groups("raycluster").values():
        wrong = pod(group)
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
        wrong["spec"]["containers"][0]["secretName"] = "x"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("group", ["head", "cpu", "gpu"])
def test_pods_run_as_nobody_special_and_ask_for_what_they_use(group: str) -> None:
    spec = groups("raycluster")[group]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000  # the image's user
    (container,) = spec["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert (
        container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    )
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("group", ["head", "cpu", "gpu"])
def test_secrets_come_from_a_secret(group: str) -> None:
    (container,) = groups("raycluster")[group]["template"]["spec"]["containers"]
    secret = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "PREFECT_API_URL"}
    found = {entry["name"]: entry for entry in container["env"]}
    assert secret <= found.keys()
    for name in secret:
        assert "value" not in found[name]
        assert found[name]["valueFrom"]["secretKeyRef"]["name"] == "discl"


def test_workers_may_be_taken_away_and_the_head_does_no_work() -> None:
    found = groups("raycluster")
    assert found["head"]["rayStartParams"]["num-cpus"] == "0"
    for name in ("cpu", "gpu"):
        group = found[name]
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        spec = group["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] >= 60
        assert "ray stop" in spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    spec = found["gpu"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"nvidia.com/gpu", "discl/preemptible"} <= {t["key"] for t in spec["tolerations"]}


def test_clusters_have_the_ray_that_is_installed_and_authentication() -> None:
    assert cluster("raycluster")["rayVersion"] == importlib.metadata.version("ray")
    assert cluster("raycluster")["authOptions"]["mode"] == "token"
    assert cluster("raycluster")["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster("raycluster")["enableInTreeAutoscaling"] is True
    assert manifest("rayjob")["spec"]["shutdownAfterJobFinishes"] is True
