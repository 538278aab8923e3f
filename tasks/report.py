"""Writes the report, and shows its essence in Prefect's interface."""

from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from infra.report.saved import RunOutcome, publish, save_facts
from tasks.gather import gather
from tasks.runtime import runtime, stage


@task(name="write-report")
def write() -> dict[str, Any]:
    """Report and numbers from what is in the store."""
    store = runtime().store
    result = publish(store)
    create_table_artifact(
        key="comparison",
        table=[
            {"arm": name, **{metric: _rounded(value) for metric, value in arm["mean"].items()}}
            for name, arm in result["arms"].items()
        ],
        description="Mean over seeds on the test images.",
    )
    create_link_artifact(key="report", link=(store.report / "index.html").as_uri())
    return result


def report(outcome: RunOutcome) -> dict[str, Any]:
    """The numbers of the run; the report is written."""
    save_facts(runtime().store, outcome)
    with stage("write report", 1, "reports"):
        (result,) = gather([write.submit()])
    found: dict[str, Any] = result
    return found


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
