"""How fast the workers were, as Prefect's interface and the report show it."""

import json
from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.report.saved import STAGES, load_facts
from infra.storage.runs import RunStore


@pytest.fixture(scope="module")
def artifacts(finished_run: RunStore) -> dict[str, Any]:
    """Key to artifact of this run: other tests have runs on the same server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        ArtifactFilterKey,
    )

    reports = ArtifactFilter(key=ArtifactFilterKey(any_=["report"]))
    with get_client(sync_client=True) as client:
        links = client.read_artifacts(artifact_filter=reports)
        own = [link for link in links if str(finished_run.root) in str(link.data)]
        first = min(own, key=lambda link: link.created)  # tests call the finished run again
        of_run = ArtifactFilterFlowRunId(any_=[first.flow_run_id])
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_run))
    return {artifact.key: artifact for artifact in found if artifact.key}


def test_prefect_shows_the_gauge_of_the_workers(artifacts: dict[str, Any]) -> None:
    table = {row["what"]: row["value"] for row in json.loads(artifacts["generate-speed"].data)}
    assert float(table["evaluations per second"].replace(",", "")) > 0
    assert float(table["rows per batch"]) <= float(table["batch size"])
    assert {"share of bare rate", "queue", "network seconds", "decode seconds"} <= set(table)


def test_only_stages_that_measure_have_a_gauge(artifacts: dict[str, Any]) -> None:
    assert {key for key in artifacts if key.endswith("-speed")} == {"generate-speed"}
    assert {"generate", "train-classifiers", "comparison", "classes", "strips", "report"} <= set(
        artifacts
    )


def test_bills_of_all_shards_add_up_in_the_report(finished_run: RunStore) -> None:
    cost = load_facts(finished_run).cost
    assert cost is not None
    bills = [json.loads(path.read_text()) for path in finished_run.generated.glob("*.cost.json")]
    assert cost.model_calls == sum(bill["num_model_calls"] for bill in bills) > 0
    assert tuple(cost.stages) == STAGES
    assert all(cost.stages[name] > 0 for name in STAGES)
    assert cost.stages["network"] < cost.seconds
    assert 0 < cost.batch_fill <= 1
    assert cost.batch_fill * cost.batch_size <= cost.queue <= 2 * cost.batch_size
    page = (finished_run.report / "index.html").read_text()
    assert "% of what the network alone does" in page
    assert "that waited" in page


def test_prefect_shows_the_long_tail(artifacts: dict[str, Any], finished_run: RunStore) -> None:
    rows = json.loads(artifacts["classes"].data)
    real = pq.read_table(finished_run.real_manifest).to_pylist()
    kept = [row for row in real if row["split"] == "train" and row["status"] == "ok"]
    assert {row["class"]: row["real"] for row in rows} == Counter(r["class_name"] for r in kept)
    made = pq.read_table(finished_run.manifest).to_pylist()
    counts = Counter(row["class_name"] for row in made if row["status"] == "ok")
    assert {row["class"]: row["synthetic"] for row in rows if row["synthetic"]} == counts
