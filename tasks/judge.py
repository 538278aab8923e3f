"""Scores the synthetic images and commits the manifest with every decision."""

from pathlib import Path

import pyarrow as pa
from prefect import task

from infra.config import RunConfig
from infra.jobs.dataset import Dataset, pixel_format
from infra.jobs.judge import JudgeShard, judge_shard
from infra.storage.atomic import read_table
from infra.storage.manifest import apply_scores, commit_manifest
from infra.storage.shards import file_sha256, read_rows, write_info
from tasks.gather import gather, present
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died


@task(
    name="judge-shard",
    cache_key_fn=lambda _, parameters: f"judge-{parameters['shard'].path.name}",
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def judge(shard: JudgeShard) -> str:
    """Scores one shard with one judge; returns the file of the scores."""
    return str(run_job(judge_shard, shard))


def judge_all(
    config: RunConfig, dataset: Dataset, names: list[str], classifier: Path | None
) -> list[JudgeShard]:
    """Scores every shard with every judge, where that has not been done."""
    store = runtime().store
    locations = dataset.locations()
    jobs = [
        JudgeShard(
            name=name,
            judge=spec,
            class_names=dataset.class_names,
            classifier=classifier,
            classifier_hash=file_sha256(classifier) if classifier else "",
            folder=store.generated,
            real_folder=store.real,
            sources=_sources_of(store.generated, name, locations),
            form=pixel_format(config.data),
            scores=store.scores,
        )
        for spec in config.filter.judges
        for name in names
    ]
    total = sum(read_rows(store.generated, job.name).num_rows for job in jobs)
    with stage("judge", total, "images"):
        gather(
            judge.with_options(
                retries=runtime().workers.retries,
                refresh_cache=not job.path.is_file(),
                task_run_name=f"{job.judge.name}-{job.name}",
            ).submit(opaque(job))
            for job in jobs
        )
    return jobs


def commit(dataset: Dataset, names: list[str], judged: list[JudgeShard]) -> None:
    """Writes the manifest: every requested image with its scores and what was decided."""
    store = runtime().store
    tables = [_decided(name, [job for job in judged if job.name == name]) for name in names]
    commit_manifest(store.manifest, tables)
    refs = {"train": present(store.generated, names)}
    write_info(store.generated, {"class_names": list(dataset.class_names)}, refs)


def _decided(name: str, judged: list[JudgeShard]) -> pa.Table:
    """Rows of a shard with all scores; the first judge that refuses an image gives the reason."""
    rows = read_rows(runtime().store.generated, name)
    decisions: dict[str, str] = {}
    for job in judged:
        scores = read_table(job.path)
        for key, refused in zip(
            scores["key"].to_pylist(), scores["refused"].to_pylist(), strict=True
        ):
            decisions[key] = decisions.get(key) or refused
        rows = apply_scores(rows, scores.drop_columns(["refused"]), dict(decisions))
    return rows


def _sources_of(
    folder: Path, name: str, locations: dict[str, dict[str, object]]
) -> dict[str, dict[str, object]]:
    keys = set(read_rows(folder, name).column("source_key").to_pylist())
    return {key: locations[key] for key in sorted(keys)}
