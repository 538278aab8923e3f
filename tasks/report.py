"""Writes the report, and shows its essence in Prefect's interface."""

from typing import Any

from prefect import task

from infra.report.saved import RunOutcome, publish, save_facts
from tasks.artifacts import publish_artifacts
from tasks.gather import gather
from tasks.runtime import runtime, stage


@task(name="write-report")
def write() -> dict[str, Any]:
    """Report and numbers from what is in the store."""
    result = publish(runtime().store)
    publish_artifacts(runtime().store, result)
    return result


def report(outcome: RunOutcome) -> dict[str, Any]:
    """The numbers of the run; the report is written."""
    save_facts(runtime().store, outcome)
    with stage("write report", 1, "reports"):
        (result,) = gather([write.submit()])
    found: dict[str, Any] = result
    return found
