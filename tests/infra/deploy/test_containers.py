"""Images, compose file and cluster launcher: linted, since no container engine is at hand."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra/deploy"
IMAGES = ("Dockerfile", "Dockerfile.cuda")
STYLE = """
extends: default
rules:
  line-length: {max: 120}
  document-start: disable
  truthy: {check-keys: false}
  comments: {min-spaces-from-content: 1}
"""


def lint(*command: str) -> None:
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    return found


def test_dockerfiles_pass_hadolint() -> None:
    lint("hadolint", *(str(DEPLOY / image) for image in IMAGES))


def test_yaml_is_tidy() -> None:
    lint("yamllint", "--strict", "--config-data", STYLE, str(DEPLOY))


def test_compose_file_follows_the_compose_specification() -> None:
    lint(
        "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(DEPLOY / "docker-compose.yml"),
    )


@pytest.mark.parametrize("image", IMAGES)
def test_images_are_pinned_unprivileged_and_constrained(image: str) -> None:
    text = (DEPLOY / image).read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(bases) == 2  # what builds stays behind
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    assert "USER 1000:1000" in text.split("FROM")[-1]
    installs = re.findall(r"pip install (\S+ \S+)", text)
    assert set(installs) == {"--constraint constraints.txt"}
    assert "HEALTHCHECK" in text
    assert not re.search(r"SECRET|TOKEN|PASSWORD|API_KEY", text)
    ignored = (DEPLOY / f"{image}.dockerignore").read_text().split()
    assert "*" in ignored  # everything that is not named
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
        for name in line.split()
    }
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_published_ports_are_on_loopback() -> None:
    ports = [
        port for service in compose()["services"].values() for port in service.get("ports", [])
    ]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_is_in_the_compose_file() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN", name):
                assert re.fullmatch(r"\$\{\w+(:-|:\?[^}]+)\}", str(value)), name


def test_services_name_volumes_and_services_that_exist() -> None:
    found = compose()
    for service in found["services"].values():
        assert set(service.get("depends_on", ())) <= found["services"].keys()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in found["volumes"] or (DEPLOY / source).exists()
        if service["image"].startswith("discl"):
            assert service["cap_drop"] == ["ALL"]
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_prometheus_scrapes_ports_that_compose_opens() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {t for job in jobs for entry in job["static_configs"] for t in entry["targets"]}
    services = compose()["services"]
    assert {target.split(":")[0] for target in targets} <= services.keys()
    assert (
        f"prefect-worker:{services['prefect-worker']['environment']['DISCL_METRICS_PORT']}"
        in targets
    )
    assert "--metrics-export-port=8080" in services["ray-head"]["command"]


def launcher() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "ray/cluster.yaml").read_text())
    return found


def test_the_launcher_file_follows_rays_own_schema() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler/ray-schema.json").read_text())
    found = launcher()
    jsonschema.validate(found, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "max_wrokers": 3}, schema)
    assert found["head_node_type"] in found["available_node_types"]
    assert found["available_node_types"]["gpu"]["resources"]["GPU"] == 1
    assert "--dashboard-host=127.0.0.1" in " ".join(found["head_start_ray_commands"])
