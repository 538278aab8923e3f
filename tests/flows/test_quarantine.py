"""A shard that kills its workers is given up alone, said so, and tried again on demand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from infra.cli.app import app
from infra.jobs.quarantine import quarantined
from infra.jobs.verify import verify
from infra.storage.atomic import read_json
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from tests.flows.poison import POISON, poisoned
from tests.support.tiny_run import shard_bytes, tiny_data

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Poisoned:
    folder: Path
    store: RunStore

    def run(self, *options: str) -> Result:
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(tiny_data("workers.kind=ray", "workers.count=2")))
        command = ["run", str(config), "--output", str(self.store.root), *options]
        return CliRunner().invoke(app, command)

    def deaths(self) -> int:
        return len((self.folder / "deaths").read_text())

    def trained(self) -> dict[str, int]:
        results = self.store.training.glob("*/result.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in results}

    def rows(self) -> list[dict[str, Any]]:
        return rows_of(self.store)


def rows_of(store: RunStore) -> list[dict[str, Any]]:
    """The manifest without scores: the classifier's last bits depend on the number of threads."""
    rows = read_manifest(store.manifest)
    scores = [name for name in rows.column_names if name.startswith("score_")]
    found: list[dict[str, Any]] = rows.drop_columns(scores).to_pylist()
    return found


@pytest.fixture
def run(
    prefect_harness: None, finished_run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Poisoned:
    names = sorted(path.stem for path in finished_run.generated.glob("g040-*.tar"))
    (tmp_path / "shard").write_text(names[1])
    monkeypatch.setenv(POISON, str(tmp_path))
    monkeypatch.setattr("tasks.generate.generate_shards", poisoned)
    return Poisoned(tmp_path, RunStore(tmp_path / "output"))


def test_a_poison_shard_is_given_up_alone_and_made_when_it_is_none_any_more(
    run: Poisoned, finished_run: RunStore
) -> None:
    name = (run.folder / "shard").read_text()
    first = run.run()
    assert first.exit_code == 3, first.output
    assert "completed with failures: 1 shards were given up" in first.output
    assert run.deaths() == 3

    rows = run.rows()
    reasons = {row["reason"] for row in rows if row["shard"] == name}
    assert reasons == {"worker_died"}
    whole = {row["key"]: row for row in rows_of(finished_run)}
    assert [row["key"] for row in rows] == list(whole)
    others = [row for row in rows if row["shard"] != name]
    assert all(row == whole[row["key"]] for row in others)
    result = read_json(run.store.result)
    assert result["images"]["failed"] == len(rows) - len(others) > 0
    assert verify(run.store).problems == []

    trained = run.trained()
    second = run.run()  # as finished as it can be
    assert (second.exit_code, run.deaths(), run.trained()) == (3, 3, trained)

    (run.folder / "shard").write_text("none")
    third = run.run("--retry-quarantined")
    assert third.exit_code == 0, third.output
    assert shard_bytes(run.store) == shard_bytes(finished_run)
    assert run.rows() == rows_of(finished_run)
    assert quarantined(run.store) == []
    assert verify(run.store).problems == []
    again = run.trained()
    assert again.keys() == trained.keys()
    kept = {arm for arm in again if again[arm] == trained[arm]}
    # Only what has seen the level without the images is trained again.
    assert kept == {arm for arm in again if arm.startswith("baseline-")}
