"""What all tasks have in common: when they are retried, and under which key they are cached."""

from typing import Any, TypeVar, cast

from prefect.serializers import JSONSerializer
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import quote

from infra.errors import WorkerError
from infra.metrics import RETRIES
from infra.prefect_server import PLAIN_RESULTS
from tasks.runtime import runtime

T = TypeVar("T")

# Results are small plain values; JSON, since pickles are never read from disk here.
CACHED: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": JSONSerializer(**PLAIN_RESULTS),
}
RETRIED: dict[str, Any] = {
    "retry_delay_seconds": exponential_backoff(backoff_factor=1),
    "retry_jitter_factor": 0.3,
    "log_prints": False,
}


def opaque(value: T) -> T:
    """A task argument that Prefect hands over as it is, without looking through it for futures."""
    return cast(T, quote(value))


def worker_died(task: Any, task_run: Any, state: Any) -> bool:
    """Retry condition: only what another worker may do better."""
    died = isinstance(state.data, WorkerError)
    if died:
        runtime().meter.add(RETRIES, 1, task=task.name)
    return died
