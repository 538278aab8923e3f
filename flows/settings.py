"""What all flows have in common."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from infra.jobs.quarantine import quarantined
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


def completed(store: RunStore, data: Any) -> State[Any]:
    """The end of a flow; its name says whether shards were given up."""
    given_up = quarantined(store)
    if not given_up:
        return Completed(data=data)
    images = sum(each.images for each in given_up)
    message = f"{len(given_up)} shards were given up, {images} images: their workers kept dying"
    return Completed(name="CompletedWithFailures", message=message, data=data)
