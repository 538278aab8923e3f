"""What all flows have in common."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from infra.jobs.quarantine import given_up
from infra.storage.runs import RunStore

MAX_THREADS = 4096
"""More than twice the workers of any run, which is what an agenda has under way.

Threads only wait, and there are no more of them than tasks: with fewer, workers would stay idle.
"""

FLOW: dict[str, Any] = {
    "task_runner": ThreadPoolTaskRunner(max_workers=MAX_THREADS),
    "log_prints": False,
    "persist_result": False,
}


def completed(store: RunStore, data: Any, message: str | None = None) -> State[Any]:
    """The end of a flow; its name says whether shards were given up."""
    if not (failures := given_up(store)):
        return Completed(message=message, data=data)
    message = f"{message}; {failures}" if message else failures
    return Completed(name="CompletedWithFailures", message=message, data=data)
