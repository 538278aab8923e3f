"""A real run as its watchers see it: scrapes, log lines and spans of one command."""

import json
import os
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from tests.support.scrape import Labels, free_port, scrape, total, values
from tests.support.tiny_run import CHANGES

pytestmark = pytest.mark.slow

SECRET = "sesame-open-1234"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a command from outside."""

    store: RunStore
    scrapes: list[dict[tuple[str, Labels], float]]
    last: dict[tuple[str, Labels], float]
    lines: list[dict[str, Any]]
    spans: list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    command = [sys.executable, "-m", "infra.cli", "--log-format", "json"]
    command += ["--metrics-port", str(port), "generate", "--preset", "digits", "-w", "local"]
    changes = [*CHANGES, "filter.judges=[{name: classifier, min_probability: 0.3}]"]
    command += [part for change in changes for part in ("-s", change)]
    environment = {
        **os.environ,
        "DISCL_METRICS_FILE": str(folder / "last.prom"),
        "OTEL_TRACES_EXPORTER": "console",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    out, err = folder / "out.txt", folder / "err.txt"
    scrapes = []
    with out.open("w") as stdout, err.open("w") as stderr:
        running = subprocess.Popen(
            [*command, "-o", str(folder / "animals")], env=environment, stdout=stdout, stderr=stderr
        )
        while running.poll() is None:
            with suppress(urllib.error.URLError, ConnectionError):  # not there yet, or no more
                scrapes.append(values(scrape(port)))
            time.sleep(0.05)
    assert running.returncode == 0, err.read_text()
    assert SECRET not in out.read_text() + err.read_text()
    return Watched(
        store=RunStore(folder / "animals"),
        scrapes=scrapes,
        last=values((folder / "last.prom").read_text()),
        lines=[json.loads(line) for line in err.read_text().splitlines()],
        spans=list(documents(out.read_text())),
    )


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that follow one another in a text."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        found, end = decoder.raw_decode(text, at)
        yield found
        at = text.find("{", end)


def test_counters_end_at_what_the_manifest_says(seen: Watched) -> None:
    rows = read_manifest(seen.store.manifest).to_pylist()
    fates = Counter(row["status"] for row in rows)
    assert fates["ok"] > 0 < fates["filtered"]  # or the test would show little
    for found in (seen.last, seen.scrapes[-1]):
        assert total(found, "discl_images_made_total") == len(rows) - fates["failed"]
        assert total(found, "discl_images_failed_total") == fates["failed"]
        assert total(found, "discl_images_accepted_total") == fates["ok"]
        assert total(found, "discl_images_refused_total") == fates["filtered"]
        calls = sum(row["num_model_calls"] for row in rows)
        assert total(found, "discl_model_evaluations_total") == calls > 0
    refused = Counter(row["reason"] for row in rows if row["status"] == "filtered")
    for reason, count in refused.items():
        labels = (("reason", reason), ("run", "animals"))
        assert seen.last["discl_images_refused_total", labels] == count


def test_shards_bytes_and_stages_are_counted(seen: Watched) -> None:
    tars = list(seen.store.generated.glob("*.tar"))
    assert total(seen.last, "discl_shards_written_total") == len(tars) > 0
    assert total(seen.last, "discl_bytes_written_total") == sum(t.stat().st_size for t in tars)
    capacity = total(seen.last, "discl_batch_capacity_total")
    assert 0 < total(seen.last, "discl_model_evaluations_total") <= capacity
    labels = (("run", "animals"), ("stage", "generate"), ("unit", "images"))
    planned = seen.last["discl_stage_planned", labels]
    assert seen.last["discl_stage_done", labels] == planned > 0
    assert seen.last["discl_stage_seconds_total", labels[:2]] > 0
    assert (
        0
        < seen.last[
            "discl_test_accuracy_percent", (("arm", "baseline"), ("run", "animals"), ("seed", "0"))
        ]
        <= 100
    )
    assert time.time() - total(seen.last, "discl_last_progress_timestamp_seconds") < 600


def test_a_scrape_in_the_middle_sees_the_work_grow(seen: Watched) -> None:
    made = [total(found, "discl_images_made_total") for found in seen.scrapes]
    assert made == sorted(made)
    assert len(set(made)) > 2
    assert made[0] == 0


def test_every_log_line_says_what_it_concerns(seen: Watched) -> None:
    inside = [line for line in seen.lines if line.get("run") == "animals"]
    written = [line for line in inside if line["message"] == "shard written"]
    assert {line["shard"] for line in written} == {
        path.stem for path in seen.store.generated.glob("*.tar")
    }
    assert all(line["group"].startswith("g") and line["bytes"] > 0 for line in written)
    refused = {line["request"] for line in inside if line["message"].startswith("image refused")}
    rows = read_manifest(seen.store.manifest).to_pylist()
    assert refused == {row["key"] for row in rows if row["status"] == "filtered"}
    stages = [line["stage"] for line in inside if line["message"] == "stage done"]
    assert stages.index("read real images") < stages.index("generate") < stages.index("judge")


def test_spans_go_from_the_run_to_its_shard_groups(seen: Watched) -> None:
    by_id = {span["context"]["span_id"]: span for span in seen.spans}

    def ancestors(span: dict[str, Any]) -> list[str]:
        found = []
        while span["parent_id"]:
            span = by_id[span["parent_id"]]
            found.append(span["name"])
        return found

    groups = [s for s in seen.spans if "discl.evaluations" in s["attributes"]]
    assert len(groups) >= 3
    for group in groups:
        names = ancestors(group)
        assert "generate" in names
        assert names.index("generate") < names.index("run")
        assert group["attributes"]["discl.network_seconds"] >= 0
    evaluations = sum(group["attributes"]["discl.evaluations"] for group in groups)
    assert evaluations == total(seen.last, "discl_model_evaluations_total")
    (run,) = [s for s in seen.spans if s["attributes"].get("discl.run") == "animals"]
    assert run["resource"]["attributes"]["service.name"] == "discl"
