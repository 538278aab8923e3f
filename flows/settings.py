"""What all flows have in common."""

from typing import Any

from prefect.task_runners import ThreadPoolTaskRunner

# Threads only wait: a task leases a worker, and there are never more leases than workers.
FLOW: dict[str, Any] = {
    "task_runner": ThreadPoolTaskRunner(max_workers=64),
    "log_prints": False,
    "persist_result": False,
}
