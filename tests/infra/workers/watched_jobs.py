"""A job that counts and logs as generation does."""

import logging
from collections.abc import Generator

from infra.workers.base import Progress, WorkerContext


def report(context: WorkerContext, secret: str) -> Generator[Progress, None, None]:
    counters = {
        "batches": 2,
        "capacity": 16,
        "queued": 20,
        "seconds": 1.5,
        "network_seconds": 1.0,
        "copied": 1,
        "failed_not_finite": 2,
        "shards": 1,
        "bytes": 4096,
        "updates": 3,
    }
    logging.getLogger("discl.test").info("signed with %s", secret, extra={"shard": "g040-1"})
    yield Progress(done=1, total=2, gauge={"evaluations": 4, "made": 2})
    yield Progress(done=2, total=2, gauge={**counters, "evaluations": 12, "made": 5})
