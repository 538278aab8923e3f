"""What making shards costs, as it happens: a live gauge, and a bill for every shard."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from generators.engine import NETWORK, Engine
from generators.records import GenerationRequest
from generators.stopwatch import Stopwatch
from infra.jobs.shard_work import ShardCost
from infra.metrics import FAILED
from infra.storage.shards import ShardRef

LOG = logging.getLogger("discl.generate")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """All counters at one moment."""

    at: float
    calls: int
    capacity: int
    batches: int
    queued: int
    stages: Mapping[str, float] = field(default_factory=dict)


class Account:
    """Reads the counters of an engine and of what runs beside it.

    Args:
        engine: its counts go on from job to job.
        beside: times the stages of other threads.
        row_seconds: what a row of a full batch takes when nothing but the network runs.
    """

    def __init__(self, engine: Engine, beside: Stopwatch, row_seconds: float) -> None:
        self._engine, self._beside, self._row_seconds = engine, beside, row_seconds
        self._begin = self._last = self._read()
        self._counted = Counter[str]()

    def copied(self, images: int) -> None:
        """So many images come from other shards."""
        self._counted["copied"] += images

    def ended(self, request: GenerationRequest, shard: str, reason: str) -> None:
        """An image is made, or failed with a reason code."""
        if not reason:
            self._counted["made"] += 1
            return
        self._counted[f"{FAILED}{reason}"] += 1
        LOG.info("image failed: %s", reason, extra={"shard": shard, "request": request.key})

    def written(self, ref: ShardRef) -> None:
        """A shard is complete."""
        self._counted["shards"] += 1
        self._counted["bytes"] += ref.num_bytes
        numbers = {"images": ref.num_samples, "rows": ref.num_rows, "bytes": ref.num_bytes}
        LOG.info("shard written", extra={"shard": ref.name, "numbers": numbers})

    def gauge(self) -> dict[str, float]:
        """The counters of this job so far; `infra.gauge` makes rates of them."""
        now, begin = self._read(), self._begin
        calls = now.calls - begin.calls
        return {
            "evaluations": calls,
            "batches": now.batches - begin.batches,
            "capacity": now.capacity - begin.capacity,
            "queued": now.queued - begin.queued,
            "seconds": now.at - begin.at,
            "bare_seconds": calls * self._row_seconds,
            **{f"{name}_seconds": value for name, value in _less(now, begin).items()},
            **self._counted,
        }

    def close(self, num_model_calls: int) -> ShardCost:
        """The bill of a shard: everything since the last bill, so that all bills add up.

        Args:
            num_model_calls: of this shard; with several shards in the engine, time and room in
                batches are shared by when a shard ends.
        """
        now, last = self._read(), self._last
        self._last = now
        return ShardCost(
            num_model_calls=num_model_calls,
            capacity=now.capacity - last.capacity,
            batch_size=self._engine.max_batch_size,
            num_batches=now.batches - last.batches,
            queued=now.queued - last.queued,
            seconds=now.at - last.at,
            bare_seconds=num_model_calls * self._row_seconds,
            stages=_less(now, last),
        )

    def _read(self) -> _Reading:
        stats = self._engine.stats
        return _Reading(
            at=time.perf_counter(),
            calls=stats.num_model_calls,
            capacity=stats.capacity,
            batches=stats.num_batches,
            queued=stats.queued,
            stages={NETWORK: 0.0, **self._engine.watch.seconds(), **self._beside.seconds()},
        )


def _less(now: _Reading, before: _Reading) -> dict[str, float]:
    return {name: value - before.stages.get(name, 0.0) for name, value in now.stages.items()}
