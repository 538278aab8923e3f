"""One shard while it is being made: what has come of its requests, and how it is written."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from generators.places import Place, file_exists
from generators.records import GenerationRequest, SampleRecord
from generators.registry import MethodSpec
from infra.jobs.members import shard_member
from infra.jobs.reuse import ReusedImage, reused_members
from infra.storage.atomic import read_json, write_json
from infra.storage.manifest import record_rows
from infra.storage.shards import ShardRef, read_ref, write_shard

NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateShard:
    """A shard of requests, and where its sources and results are.

    Attributes:
        name: of the shard: the hash of its requests.
        requests: what to make.
        backbone: how the network is loaded.
        batch_size: most rows in one model evaluation.
        deterministic: whether the same bytes are wanted every time.
        folder: where the shard goes.
        real_folder: shards of the real images.
        sources: source key to its row: shard, offset, size.
        extension: png or jpg.
        jpeg_quality: 1..100.
        reused: request key to the same image in another shard, where there is one.
        cache_bytes: for encoded sources and prompts, on the worker's device.
        progress_seconds: least time between two words about progress.
        class_names: of the data set, by label.
        prompt: the run's template; guidance may lead to other classes than the request's.
    """

    name: str
    requests: tuple[GenerationRequest, ...]
    backbone: MethodSpec
    batch_size: int
    deterministic: bool
    folder: Place
    real_folder: Place
    sources: Mapping[str, Mapping[str, Any]]
    extension: Literal["png", "jpg"]
    jpeg_quality: int
    reused: Mapping[str, ReusedImage] = field(default_factory=dict)
    cache_bytes: int = 512 * 2**20
    progress_seconds: float = 0.0
    class_names: tuple[str, ...] = ()
    prompt: str = "{class_name}"

    @property
    def cost_path(self) -> Place:
        """Costs differ from run to run, so they stay out of the shard."""
        return self.folder / f"{self.name}.cost.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCost:
    """What a shard took. Shards of a worker that is busy with several share its time.

    Attributes:
        num_model_calls: rows evaluated.
        capacity: rows that the evaluations had room for.
        batch_size: most rows in an evaluation.
        num_batches: evaluations.
        queued: rows that waited for each of them, added up.
        seconds: of the worker.
        bare_seconds: what the same rows take when nothing but the network runs.
        stages: stage to seconds; stages on other threads overlap with the network's.
    """

    num_model_calls: int = 0
    capacity: int = 0
    batch_size: int = 0
    num_batches: int = 0
    queued: int = 0
    seconds: float = 0.0
    bare_seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedShard:
    """A finished shard and what it cost."""

    ref: ShardRef
    cost: ShardCost


def finished_shard(shard: GenerateShard) -> GeneratedShard | None:
    """A shard that is there already, with what it cost then."""
    ref = read_ref(shard.folder, shard.name)
    if ref is None:
        return None
    cost = ShardCost(**read_json(shard.cost_path)) if file_exists(shard.cost_path) else ShardCost()
    return GeneratedShard(ref=ref, cost=cost)


@dataclass(slots=True, eq=False)
class ShardWork:
    """Collects the images of a shard in any order.

    Attributes:
        shard: what is made.
        images: row of a request to its file, None where it failed.
        calls: row of a request to its model evaluations.
        reasons: row of a failed request to its reason code.
    """

    shard: GenerateShard
    images: dict[int, bytes | None] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def to_make(self) -> Iterator[tuple[int, GenerationRequest]]:
        """Requests whose image is not there yet, with their rows."""
        for row, request in enumerate(self.shard.requests):
            if request.key not in self.shard.reused:
                yield row, request

    @property
    def missing(self) -> int:
        """Images that have not ended yet."""
        return len(self.shard.requests) - len(self.shard.reused) - len(self.images)

    def add(self, row: int, image: bytes | None, reason: str = NOT_FINITE) -> None:
        """The end of one request: its image, or None and a reason code."""
        self.images[row] = image
        if image is None:
            self.reasons[row] = reason

    def write(self, cost: ShardCost) -> ShardRef:
        """Writes cost, tar and twin; the twin marks the end. Then the cost of writing is known."""
        started, shard = time.perf_counter(), self.shard
        members, records = reused_members(shard.requests, shard.reused)
        for row, image in self.images.items():
            request = shard.requests[row]
            records.append(self._record(row, request))
            if image is not None:
                members.append(shard_member(request, image, shard.extension))
        order = {request.key: row for row, request in enumerate(shard.requests)}
        records.sort(key=lambda record: order[record.key])
        write_json(shard.cost_path, asdict(cost))
        ref = write_shard(shard.folder, shard.name, members, record_rows(records))
        stages = {**cost.stages, "write": time.perf_counter() - started}
        write_json(shard.cost_path, asdict(replace(cost, stages=stages)))
        return ref

    def _record(self, row: int, request: GenerationRequest) -> SampleRecord:
        return SampleRecord(
            key=request.key,
            request=request,
            num_model_calls=self.calls.get(row, 0),
            status="failed" if row in self.reasons else "ok",
            reason=self.reasons.get(row, ""),
        )
