"""Scores the synthetic images, level by level, and commits the manifest with every decision."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prefect import task

from generators.places import Place, file_exists
from generators.registry import MethodSpec, content_hash
from infra.config import RunConfig
from infra.jobs.dataset import Dataset, pixel_format
from infra.jobs.in_turn import in_turn
from infra.jobs.judge import JudgeShard, judge_shard
from infra.jobs.levels import PlannedLevel, commit_levels, settle_level
from infra.meter import Meter
from infra.metrics import IMAGES_ACCEPTED, IMAGES_REFUSED
from infra.report.counts import Fates, fates
from infra.storage.atomic import read_table
from infra.storage.files import sizes_in
from infra.storage.runs import RunStore
from infra.storage.shards import file_sha256, read_rows, write_info
from tasks.agenda import Unit
from tasks.events import manifest_committed
from tasks.gather import present
from tasks.generate import Generation, group_mark
from tasks.runtime import open_stage, run_job, runtime
from tasks.settings import CACHED, RETRIED, opaque, worker_died
from tasks.sizes import MAX_JUDGING, in_groups, named, parts_per_task
from tasks.stages import OpenStage

MANIFEST = "manifest"
"""Reached when the manifest is committed."""


def level_mark(level: int) -> str:
    """Reached when a level is generated, judged and settled: trainings may read it."""
    return f"level {level}"


@task(
    name="judge-shards",
    cache_key_fn=lambda _, parameters: (
        "judge-" + content_hash([shard.path.name for shard in parameters["shards"]])
    ),
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def judge(shards: tuple[JudgeShard, ...]) -> list[str]:
    """Scores shards of one level with one judge; returns the files of the scores."""
    return [str(path) for path in run_job(in_turn, judge_shard, shards)]


@task(name="settle-level")
def settle(level: PlannedLevel, store: RunStore) -> str:
    """Decides about the images of a level; returns the file of its rows."""
    path = settle_level(level, store)
    count_settled(fates(read_table(path, ["status", "reason"])), runtime().meter)
    return str(path)


def count_settled(settled: Fates, meter: Meter) -> None:
    """Adds what became of the images of a level to the metrics."""
    meter.add(IMAGES_ACCEPTED, settled.accepted)
    for reason, count in settled.rejected.items():
        meter.add(IMAGES_REFUSED, count, reason=reason)


@task(name="commit-manifest")
def commit(levels: Sequence[PlannedLevel], class_names: Sequence[str], store: RunStore) -> int:
    """Writes the manifest, and beside the shards what readers need; returns the images asked for.

    What was there before stays as it is until this.
    """
    before = file_sha256(store.manifest) if file_exists(store.manifest) else ""
    rows = commit_levels(levels, store)
    names = sorted(name for level in levels for name in level.shards)
    refs = {"train": present(store.generated, names)}
    write_info(store.generated, {"class_names": list(class_names)}, refs)
    if file_sha256(store.manifest) != before:
        manifest_committed(store, rows)
    return int(rows.num_rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judging:
    """What becomes of generated images.

    Attributes:
        config: of the run.
        dataset: the real images.
        generation: of the images.
        classifier: the run's own, which judges may use; trained.
    """

    config: RunConfig
    dataset: Dataset
    generation: Generation
    classifier: Place | None

    def levels(self) -> list[PlannedLevel]:
        """The levels of the plan, in the order of use."""
        shards: dict[int, list[str]] = {}
        for level, names in self.generation.groups():
            shards.setdefault(level, []).extend(names)
        return [
            PlannedLevel(
                image_guidance=level,
                shards=tuple(names),
                judges=self.config.filter.judges,
                classifier_hash=self._classifier_hash(),
            )
            for level, names in shards.items()
        ]

    def units(self) -> Iterator[Unit]:
        """Judges shards as they come, settles complete levels and, last, commits the manifest."""
        shown, levels = self._stage(), self.levels()
        yield from self._settled(shown)
        yield Unit(
            stage=shown,
            submit=partial(_commit, levels, self.dataset.class_names),
            needs=frozenset(level_mark(planned.image_guidance) for planned in levels),
            gives=MANIFEST,
        )

    def settled(self) -> Iterator[Unit]:
        """Judges shards as they come and settles complete levels."""
        yield from self._settled(self._stage())

    def _stage(self) -> OpenStage:
        total = len(self.generation.plan) * len(self.config.filter.judges)
        return open_stage("judge", total, "images")

    def _settled(self, shown: OpenStage) -> Iterator[Unit]:
        judges, levels = self.config.filter.judges, self.levels()
        judge_some = _Judge(self.config, self.dataset, self.classifier, self._classifier_hash())
        made: dict[int, list[tuple[str, ...]]] = {}
        for level, names in self.generation.groups():
            made.setdefault(level, []).append(names)
        in_all = sum(map(len, made.values())) * len(judges)
        for level, groups in made.items():
            for together in in_groups(groups, parts_per_task(in_all, MAX_JUDGING)):
                names = tuple(name for group in together for name in group)
                for spec in judges:
                    yield Unit(
                        stage=shown,
                        submit=partial(judge_some, names, spec),
                        needs=frozenset(map(group_mark, together)),
                        gives=f"judged {level}",
                        worth=partial(self._images, names),
                    )
        for planned in levels:
            level = planned.image_guidance
            yield Unit(
                stage=shown,
                submit=partial(_settle, planned),
                needs=frozenset((*map(group_mark, made[level]), f"judged {level}")),
                gives=level_mark(level),
            )

    def _images(self, names: Sequence[str], result: Any) -> int:
        return self.generation.images(*names)

    def _classifier_hash(self) -> str:
        return file_sha256(self.classifier) if self.classifier else ""


class _Judge:
    """Submits the scoring of shards of one level by one judge."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, classifier: Place | None, classifier_hash: str
    ) -> None:
        self._config, self._class_names = config, dataset.class_names
        self._classifier, self._classifier_hash = classifier, classifier_hash
        self._locations = dataset.locations()
        self._there = frozenset(sizes_in(runtime().store.scores))

    def __call__(
        self, names: tuple[str, ...], spec: MethodSpec, reached: Callable[[str], bool]
    ) -> Any:
        shards = tuple(self._shard(name, spec) for name in names)
        return judge.with_options(
            retries=runtime().workers.retries,
            refresh_cache=not self._there.issuperset(shard.path.name for shard in shards),
            task_run_name=f"{spec.name}-{named(names[0], len(names))}",
        ).submit(opaque(shards))

    def _shard(self, name: str, spec: MethodSpec) -> JudgeShard:
        store = runtime().store
        return JudgeShard(
            name=name,
            judge=spec,
            class_names=self._class_names,
            classifier=self._classifier,
            classifier_hash=self._classifier_hash,
            folder=store.generated,
            real_folder=store.real,
            sources=self._sources_of(name),
            form=pixel_format(self._config.data),
            scores=store.scores,
        )

    def _sources_of(self, name: str) -> dict[str, dict[str, object]]:
        rows = read_rows(runtime().store.generated, name, ["source_key"])
        return {key: self._locations[key] for key in sorted(set(rows["source_key"].to_pylist()))}


def _settle(level: PlannedLevel, reached: Callable[[str], bool]) -> Any:
    named = settle.with_options(task_run_name=f"level {level.image_guidance} %")
    return named.submit(opaque(level), opaque(runtime().store))


def _commit(
    levels: list[PlannedLevel], class_names: Sequence[str], reached: Callable[[str], bool]
) -> Any:
    return commit.submit(opaque(levels), opaque(class_names), opaque(runtime().store))
