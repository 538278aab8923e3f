"""Runs as jobs of a Ray cluster: what is refused before any cluster is asked, and what is sent."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from generators.errors import ConfigError
from infra.cli.app import app
from infra.cli.submit import PACKAGES, Submission, exit_code
from infra.workers.environment import adopt, store_variables
from infra.workers.ray_jobs import JobClient, JobSpec, JobState

BUCKET = (("--output", "s3://bucket/run"),)


def submission(**changes: Any) -> Submission:
    given: dict[str, Any] = {"config": None, "options": [], "places": BUCKET, **changes}
    return Submission(**given)


@pytest.mark.parametrize(
    ("places", "shared", "field", "allowed"),
    [
        ((), False, "--output", "every node"),
        ((("--output", "runs/x"),), False, "--output", "--shared-disk"),
        ((("--output", "/mnt/x"),), False, "--output", "--shared-disk"),
        ((("--output", "file:///mnt/x"),), False, "--output", "--shared-disk"),
        ((("--output", "runs/x"),), True, "--output", "absolute"),
        ((*BUCKET, ("--reuse", "runs/y")), False, "--reuse", "every node"),
    ],
)
def test_places_that_not_every_node_sees_are_refused(
    places: tuple[tuple[str, str], ...], shared: bool, field: str, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        submission(places=places, shared_disk=shared).check()
    assert caught.value.field == field


def test_places_that_every_node_sees_are_taken() -> None:
    submission().check()
    submission(places=(("--output", "/mnt/x"),), shared_disk=True).check()


def test_the_command_asks_before_it_looks_for_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(app, ["submit", "--preset", "digits", "-o", "runs/x"])
    assert shown.exit_code == 2
    assert "--shared-disk" in shown.stderr
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    there = ["-o", "s3://bucket/run", "--address"]
    for address, allowed in (
        ("ray://head:10001", "dashboard"),
        ("http://me:secret@head:8265", "without credentials"),
        ("http://127.0.0.1:9", "running Ray cluster"),
    ):
        shown = CliRunner().invoke(app, ["submit", "--preset", "digits", *there, address])
        assert shown.exit_code == 2
        assert allowed in shown.stderr
        assert "me:secret" not in shown.stderr


def test_variables_are_passed_by_name_and_their_values_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame")
    found = submission(variables=["MY_TOKEN"]).environment()
    assert found == {"MY_TOKEN": "sesame"}
    assert "sesame" not in repr(JobSpec(command="discl", environment=found))
    for name in ("MY_OTHER", "MY_OTHER=sesame"):
        with pytest.raises(ConfigError, match="MY_OTHER") as caught:
            submission(variables=[name]).environment()
        assert "sesame" not in str(caught.value)


def test_a_config_travels_alone_or_in_its_folder(tmp_path: Path) -> None:
    config = tmp_path / "configs" / "my birds.yaml"
    config.parent.mkdir()
    config.write_text("name: birds")
    alone = submission(config=config, options=["--output", "s3://bucket/run"])
    assert alone.command() == "discl run 'my birds.yaml' --output s3://bucket/run"
    with alone.folder() as folder:
        assert folder
        assert [path.read_text() for path in folder.iterdir()] == ["name: birds"]
    assert not folder.exists()

    inside = submission(config=config, working_dir=tmp_path)
    inside.check()
    assert inside.command() == "discl run 'configs/my birds.yaml'"
    with inside.folder() as folder:
        assert folder == tmp_path
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="all that is uploaded"):
        submission(config=config, working_dir=tmp_path / "other").check()


def test_a_working_directory_has_the_project_or_nothing_of_its_names(tmp_path: Path) -> None:
    for name in PACKAGES:
        (tmp_path / name).mkdir()
    whole = submission(options=["--preset", "digits"], working_dir=tmp_path)
    whole.check()
    assert whole.command() == "python -m infra.cli run --preset digits"
    shutil.rmtree(tmp_path / "tasks")
    with pytest.raises(ConfigError, match="would hide"):
        whole.check()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 3, 3),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_the_exit_code_is_the_jobs_own(status: str, code: int | None, expected: int) -> None:
    state = JobState(
        name="x", status=status, message="", command="", facts={}, started=0, exit_code=code
    )
    assert state.ended
    assert exit_code(state) == expected


def test_workers_elsewhere_get_the_variables_of_stores_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fsspec.config

    for name in ("AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_ENDPOINT_URL", "AWS_PROFILE", "MY_TOKEN"):
        monkeypatch.setenv(name, f"value of {name}")
    found = store_variables()
    assert {"AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_ENDPOINT_URL"} <= found.keys()
    assert not {"AWS_PROFILE", "MY_TOKEN"} & found.keys()
    monkeypatch.setattr(fsspec.config, "conf", {})
    adopt(found)  # fsspec was imported before
    assert fsspec.config.conf["s3"]["endpoint_url"] == "value of FSSPEC_S3_ENDPOINT_URL"


def test_a_job_client_takes_no_address_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="dashboard"):
        JobClient("anyscale://cluster")
