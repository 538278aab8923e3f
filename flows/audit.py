"""Reads every byte of an output and checks it: for a schedule, or after each new manifest."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed

from flows.settings import FLOW
from infra.jobs.verify import Verification, verify
from infra.storage.runs import run_store
from tasks.secret_environment import secret_environment

MOST_SHOWN = 100


@flow(name="audit", **FLOW)
def audit(output: str, secrets: str | None = None) -> Any:
    """Checks shards, manifests and leftovers; fails where something is wrong. Changes nothing.

    Args:
        output: folder or URL of a run.
        secrets: a Secret block: a JSON object of environment variables.
    """
    with secret_environment(secrets):
        store = run_store(output)
        found = verify(store)
    facts = {"shards": found.shards, "images": found.images, "bytes": found.num_bytes}
    if not found.problems:
        message = f"{store.root}: clean, {found.shards:,} shards, {found.images:,} images"
        return Completed(message=message, data=facts)
    _show(found)
    count, first = len(found.problems), found.problems[0]
    return Failed(message=f"{store.root}: {count} problems, first {first.path}: {first.detail}")


def _show(found: Verification) -> None:
    table = [
        {"file": str(problem.path), "problem": problem.code, "detail": problem.detail}
        for problem in found.problems[:MOST_SHOWN]
    ]
    create_table_artifact(
        key="problems", table=table, description=f"{len(found.problems)} problems were found"
    )
