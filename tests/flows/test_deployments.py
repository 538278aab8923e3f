"""Deployments on a real server: registered, shown as forms, started by workers and by events."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from infra.prefect_server import PrivateServer
from infra.storage.runs import RunStore
from tests.support.tiny_run import tiny_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECRET = "sesame-open-4711"


class Api:
    """A server of its own, asked by HTTP as any client does."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        kept = {name: value for name, value in os.environ.items() if name[:7] != "PREFECT"}
        self.environment = {**kept, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def call(self, *command: str, code: int = 0, cwd: Path = ROOT) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}}
        )
        return [run for run in found if run["state_type"] != "SCHEDULED"]

    def wait_for(self, flow: str) -> dict[str, Any]:
        """The first run of a flow, when it has ended."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            for run in self.runs_of(flow):
                if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}:
                    return run
            time.sleep(0.5)
        raise AssertionError(f"no run of {flow} ended")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("server")
    server = PrivateServer(home)
    server.wait()
    found = Api(server.url, tmp_path_factory.mktemp("home"))
    found.call("prefect", "work-pool", "create", "discl", "--type", "process")
    found.call("prefect", "--no-prompt", "deploy", "--all")
    yield found
    server.stop()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_data("name=tiny", "workers.kind=local")))
    return path


def test_every_deployment_of_the_file_is_a_form(api: Api) -> None:
    found = {deployment["name"]: deployment for deployment in api.ask("/deployments/filter", {})}
    wanted = {"pipeline", "generation", "training", "nightly-top-up", "audit"}
    assert wanted <= found.keys()
    for name in wanted - {"audit"}:
        deployment = found[name]
        assert not any(schedule["active"] for schedule in deployment["schedules"])
        schema = deployment["parameter_openapi_schema"]
        run = schema["definitions"]["RunConfig"]["properties"]
        assert {"data", "generation", "training", "workers"} <= run.keys()
        preset = schema["definitions"]["Preset"]["properties"]["preset"]
        assert "digits" in preset["enum"]
        assert preset["description"]
        assert deployment["entrypoint"].startswith("flows.")
        assert deployment["pull_steps"] in (None, [])
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert found["nightly-top-up"]["schedules"][0]["schedule"]["cron"] == "0 2 * * *"


def test_a_parameter_that_is_wrong_is_refused_when_a_run_is_asked_for(api: Api) -> None:
    text = api.call(
        *("prefect", "deployment", "run", "run/pipeline"),
        *("--param", 'config={"preset": "digit"}'),
        code=1,
    )
    assert "digit" in text
    assert api.runs_of("run") == []


def test_a_worker_runs_it_and_new_data_start_another(
    api: Api, config: Path, tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "out")
    api.ask(
        "/block_documents/",
        {
            "name": "keys",
            "data": {"value": {"TINY_TOKEN": SECRET}},
            **_secret_type(api),
        },
    )
    options = ["--flow", "generate", "--pool", "discl", "--output", str(store.root)]
    options += ["--secrets", "keys", "--cron", "0 3 * * *"]
    shown = api.call("infra.cli", "deploy", str(config), *options)
    assert "start it: prefect deployment run generate/tiny" in shown
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "discl"]
    worker = subprocess.Popen(
        command,
        env=api.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        api.call("prefect", "deployment", "run", "generate/tiny")
        made, audited = api.wait_for("generate"), api.wait_for("audit")
    finally:
        worker.terminate()
        log, _ = worker.communicate(timeout=60)
    assert made["state_type"] == "COMPLETED", log
    assert store.manifest.is_file()
    # `audit` listens to committed manifests: nobody asked for it.
    assert audited["state_type"] == "COMPLETED", log
    assert audited["parameters"]["output"] == str(store.root)
    assert "clean" in audited["state"]["message"]
    texts = [log, json.dumps(made), *(path.read_text(errors="replace") for path in files(tmp_path))]
    assert not any(SECRET in text for text in texts)
    artifacts = {item["key"] for item in api.ask("/artifacts/filter", {})}
    assert {"generate", "judge"} <= artifacts  # progress of stages
    wanted = {"discl.shards.finished", "discl.manifest.committed"}
    chosen = {"filter": {"event": {"name": sorted(wanted)}}}
    assert {event["event"] for event in api.ask("/events/filter", chosen)["events"]} == wanted


def _secret_type(api: Api) -> dict[str, str]:
    kind = api.ask("/block_types/slug/secret")["id"]
    (schema, *_) = api.ask(
        "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    )
    return {"block_type_id": kind, "block_schema_id": schema["id"]}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_automations_are_what_prefect_takes(api: Api) -> None:
    shown = api.call(
        *("prefect", "automation", "create"),
        *("--from-file", str(ROOT / "infra/deploy/automations.yaml")),
    )
    assert "Created 2 automation(s)" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--pool", "none"], "--pool: 'none' is not allowed"),
        (["--pool", "discl", "--cron", "daily"], "--cron: 'daily' is not allowed"),
        (["--pool", "discl", "--flow", "audt"], "did you mean 'audit'"),
        (["--pool", "discl", "--budget-images", "3"], "--budget-images: 3 is not allowed"),
    ],
)
def test_mistakes_name_the_option(
    api: Api, config: Path, options: list[str], expected: str
) -> None:
    assert expected in api.call("infra.cli", "deploy", str(config), *options, code=2)
