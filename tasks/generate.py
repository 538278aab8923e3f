"""Makes the synthetic images of a plan: shards of one level after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.runtime import task_run

from curriculum.plan import GenerationPlan
from generators.records import WORKER_DIED
from generators.registry import MethodSpec, content_hash
from infra.config import RunConfig
from infra.errors import WorkerError, WorkerLost
from infra.jobs.dataset import Dataset
from infra.jobs.generate import generate_shards
from infra.jobs.planning import stored_form
from infra.jobs.quarantine import give_up
from infra.jobs.reuse import Copies, find_copies
from infra.jobs.shard_work import GeneratedShard, GenerateShard
from infra.metrics import IMAGES_FAILED, QUARANTINED
from infra.storage.shards import read_refs
from tasks.agenda import Unit
from tasks.events import shards_finished
from tasks.runtime import open_stage, run_job, runtime
from tasks.settings import CACHED, RETRIED, opaque, worker_died
from tasks.sizes import in_groups, named, seconds_between_words, shards_per_task
from tasks.stages import STAGE

MAX_LOST = 10
"""Machines that may be lost, one after the other, while they make one shard."""

Rows = NDArray[np.int64]


@task(
    name="generate-shards",
    cache_key_fn=lambda _, parameters: (
        "generate-" + content_hash([shard.name for shard in parameters["shards"]])
    ),
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def generate(shards: tuple[GenerateShard, ...]) -> list[dict[str, Any]]:
    """Makes and stores shards of one level; returns what they are and what they cost.

    After the first death the shards are made one by one: then it is known whose worker dies. What
    has killed the last worker it may kill is given up; the others are not held up by it.
    """
    retries = runtime().workers.retries
    last, together = task_run.run_count > retries, task_run.run_count == 1 and len(shards) > 1
    try:
        made = run_job(generate_shards, shards) if together else _one_by_one(shards, last=last)
    except WorkerError:
        if not (together and last):
            raise
        made = _one_by_one(shards, last=True)
    plain = [asdict(shard) for shard in made]
    shards_finished(runtime().store, plain)
    return plain


def _one_by_one(shards: Sequence[GenerateShard], *, last: bool) -> list[GeneratedShard]:
    """Makes what can be made.

    Raises:
        WorkerError: the first death, unless it was the last try.
    """
    made: dict[str, GeneratedShard] = {}
    deaths: dict[str, WorkerError] = {}
    for shard in shards:
        try:
            made[shard.name] = _alone(shard)
        except WorkerError as error:
            deaths[shard.name] = error
    if deaths and not last:
        raise next(iter(deaths.values()))
    for shard in shards:
        if shard.name in deaths:
            made[shard.name] = _give_up(shard, deaths[shard.name])
    return [made[shard.name] for shard in shards]


def _alone(shard: GenerateShard) -> GeneratedShard:
    """Makes one shard. Machines that are lost are not held against it, within reason."""
    for _ in range(MAX_LOST):
        with suppress(WorkerLost):
            (made,) = run_job(generate_shards, (shard,))
            return made
    (made,) = run_job(generate_shards, (shard,))
    return made


def _give_up(shard: GenerateShard, error: WorkerError) -> GeneratedShard:
    opened, images = runtime(), len(shard.requests)
    given_up = give_up(shard, opened.store, str(error))
    opened.meter.add(IMAGES_FAILED, images - len(shard.reused), reason=WORKER_DIED)
    opened.meter.add(QUARANTINED, 1)
    opened.board.say(f"given up: {shard.name}, {images} images: {error}")
    STAGE.get().advance(images)
    return given_up


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """The shards of a plan: which there are, how they are made, and what has come of them.

    Attributes:
        config: of the run.
        plan: of the images.
        backbone: how the network is loaded; None where nothing is generated.
        batch_size: most rows in one model evaluation.
        class_names: of the data set, by label.
        locations: source key to its row: shard, offset, size.
        shards: name to rows of the plan, in its order.
        there: names of those that were complete at the begin.
        copies: rows whose images other shards hold.
        made: name to size and cost, of the shards that are complete.
    """

    config: RunConfig
    plan: GenerationPlan
    backbone: MethodSpec | None
    batch_size: int
    class_names: tuple[str, ...]
    locations: Mapping[str, Mapping[str, Any]]
    shards: Mapping[str, Rows]
    there: frozenset[str]
    copies: Copies
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def groups(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Level and names of the shards that are made by one task."""
        for level in self.plan.levels():
            names = tuple(name for name in self.shards if name.startswith(f"g{level:03d}-"))
            size = shards_per_task(len(names), len(self.shards), runtime().pool.size)
            yield from ((level, group) for group in in_groups(names, size))

    def units(self) -> Iterator[Unit]:
        """Makes every shard that is not there yet."""
        shown = open_stage("generate", len(self.plan), "images")
        for _, names in self.groups():
            yield Unit(
                stage=shown,
                submit=partial(self._submit, names),
                gives=group_mark(names),
                done=self._keep,
                worth=lambda made: self.images(*(shard["ref"]["name"] for shard in made)),
            )

    def images(self, *names: str) -> int:
        """That shards have, by the plan."""
        return sum(len(self.shards[name]) for name in names)

    def costs(self) -> list[dict[str, Any]]:
        """Size and cost of every shard, in the plan's order."""
        return [self.made[name] for name in self.shards]

    def _submit(self, names: tuple[str, ...], reached: Callable[[str], bool]) -> Any:
        """Requests are made only now: a plan may have millions."""
        return generate.with_options(
            retries=runtime().workers.retries,
            refresh_cache=not self.there.issuperset(names),
            task_run_name=named(names[0], len(names)),
        ).submit(opaque(tuple(self._shard(name) for name in names)))

    def _keep(self, made: list[dict[str, Any]]) -> None:
        self.made.update({shard["ref"]["name"]: shard for shard in made})

    def _shard(self, name: str) -> GenerateShard:
        config, store, rows = self.config, runtime().store, self.shards[name]
        requests = tuple(self.plan.request(row) for row in rows.tolist())
        form = stored_form(config)
        assert self.backbone is not None
        return GenerateShard(
            name=name,
            requests=requests,
            backbone=self.backbone,
            batch_size=self.batch_size,
            deterministic=config.generation.deterministic,
            folder=store.generated,
            real_folder=store.real,
            sources={r.source_key: self.locations[r.source_key] for r in requests},
            extension=form.extension,
            jpeg_quality=form.jpeg_quality,
            reused={} if name in self.there else self.copies.among(rows),
            progress_seconds=seconds_between_words(runtime().pool.size),
            class_names=self.class_names,
            prompt=config.generation.prompt,
        )


def open_generation(
    config: RunConfig,
    dataset: Dataset,
    plan: GenerationPlan,
    backbone: MethodSpec | None,
    batch_size: int,
) -> Generation:
    """Looks what of a plan is there, in its shards and in others."""
    store = runtime().store
    shards = dict(plan.shard_rows(config.shards.images_per_shard))
    there = frozenset(read_refs(store.generated, shards))
    missing = [np.empty(0, np.int64), *(rows for name, rows in shards.items() if name not in there)]
    folders = [store.generated, *(lender.generated for lender in runtime().lenders)]
    copies = find_copies(plan, np.concatenate(missing), folders, shards.keys(), stored_form(config))
    if len(copies):
        runtime().board.say(f"{len(copies):,} images are copied from other shards")
    return Generation(
        config=config,
        plan=plan,
        backbone=backbone,
        batch_size=batch_size,
        class_names=dataset.class_names,
        locations=dataset.locations(),
        shards=shards,
        there=there,
        copies=copies,
    )


def group_mark(names: tuple[str, ...]) -> str:
    """Reached when these shards are complete."""
    return f"shards {names[0]}"
