"""Deployments on a real server: registered, shown as forms, started by workers and by events."""

import json
from pathlib import Path

import pytest
import yaml

from infra.storage.runs import RunStore
from tests.support.prefect_api import ROOT, Api
from tests.support.tiny_run import tiny_data

pytestmark = pytest.mark.slow

SECRET = "sesame-open-4711"


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
    work = tmp_path / "worker"
    work.mkdir()
    with api.started("prefect", "worker", "start", "--pool", "discl", cwd=work):
        api.call("prefect", "deployment", "run", "generate/tiny")
        made = api.wait_for("generate", store.root)
        audited = api.wait_for("audit", store.root)
    log = (work / "log.txt").read_text()
    assert made["state_type"] == "COMPLETED", log
    assert store.manifest.is_file()
    # `audit` listens to committed manifests: nobody asked for it.
    assert audited["state_type"] == "COMPLETED", log
    assert "clean" in audited["state"]["message"]
    texts = [json.dumps(made), *(path.read_text(errors="replace") for path in files(tmp_path))]
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
