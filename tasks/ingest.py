"""Brings the real images into the run's store."""

from collections.abc import Sequence

from prefect import task

from generators.registry import content_hash
from infra.config.schema import DataConfig, ShardsConfig
from infra.jobs.dataset import SPLITS, Dataset, Selection, ingest_shards, open_dataset
from infra.jobs.in_turn import in_turn
from infra.jobs.ingest import IngestShard, ingest_shard
from infra.storage.files import for_each
from infra.storage.manifest import commit_manifest
from infra.storage.shards import read_refs, read_rows, write_info
from tasks.gather import gather, present
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died
from tasks.sizes import MAX_INGESTING, in_groups, named, parts_per_task


@task(
    name="ingest-shards",
    cache_key_fn=lambda _, parameters: (
        "ingest-" + content_hash([shard.name for shard in parameters["shards"]])
    ),
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def ingest(shards: tuple[IngestShard, ...]) -> list[str]:
    """Reads, converts and stores some images; returns the shards' names."""
    return [ref.name for ref in run_job(in_turn, ingest_shard, shards)]


def ingest_all(data: DataConfig, shards: ShardsConfig, selection: Selection) -> Dataset:
    """Ingests what is not ingested yet and commits the real manifest."""
    store = runtime().store
    parts = ingest_shards(data, shards, selection, store)
    ingest_parts(parts)
    names = [part.name for part in parts]
    tables = for_each(store.real, lambda name: read_rows(store.real, name), names)
    commit_manifest(store.real_manifest, tables, order=("split", "label", "key"))
    refs = {
        split: present(store.real, [part.name for part in parts if part.split == split])
        for split in SPLITS
    }
    write_info(store.real, {"class_names": list(selection.images.class_names)}, refs)
    return open_dataset(data, store.real_manifest)


def ingest_parts(parts: Sequence[IngestShard]) -> None:
    """Ingests the shards that are not there yet."""
    store = runtime().store
    there = frozenset(read_refs(store.real, [part.name for part in parts]))
    with stage("read real images", sum(len(part.indices) for part in parts), "images"):
        gather(
            ingest.with_options(
                retries=runtime().workers.retries,
                refresh_cache=not there.issuperset(part.name for part in group),
                task_run_name=named(group[0].name, len(group)),
            ).submit(opaque(group))
            for group in in_groups(parts, parts_per_task(len(parts), MAX_INGESTING))
        )
