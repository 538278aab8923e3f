"""The tasks of a data set that grows: takes in new real images, commits a new manifest version."""

from collections.abc import Sequence

import pyarrow.compute as pc
from prefect import task

from generators.places import file_exists
from infra.config import RunConfig
from infra.jobs.dataset import SPLITS, Dataset, ingest_shards, open_dataset, select
from infra.jobs.levels import PlannedLevel
from infra.jobs.top_up import TopUp, new_images
from infra.storage.atomic import read_table
from infra.storage.files import remove
from infra.storage.manifest import commit_manifest, read_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import read_rows, write_info
from infra.storage.versions import keep_version
from tasks.events import manifest_committed
from tasks.gather import present
from tasks.ingest import ingest_all, ingest_parts
from tasks.runtime import runtime


def ingest_new(config: RunConfig) -> Dataset:
    """Ingests the images that were not there before; the others stay as they are."""
    store, selection = runtime().store, select(config.data)
    if not file_exists(store.real_manifest):
        return ingest_all(config.data, config.shards, selection)
    before = read_manifest(store.real_manifest)
    added = new_images(config, selection, before)
    parts = ingest_shards(config.data, config.shards, added, store)
    if parts:
        ingest_parts(parts)
        tables = [before, *(read_rows(store.real, part.name) for part in parts)]
        rows = commit_manifest(store.real_manifest, tables, order=("split", "label", "key"))
        refs = {}
        for split in SPLITS:
            names = pc.unique(rows.filter(pc.equal(rows["split"], split))["shard"]).to_pylist()
            refs[split] = present(store.real, sorted(names))
        write_info(store.real, {"class_names": list(added.images.class_names)}, refs)
        runtime().board.say(f"{sum(len(part.indices) for part in parts):,} new real images")
    return open_dataset(config.data, store.real_manifest)


@task(name="commit-manifest")
def commit_version(
    top_up: TopUp, levels: Sequence[PlannedLevel], class_names: Sequence[str], store: RunStore
) -> int:
    """Writes the next version of the manifest, with what readers need; returns its number.

    The version before is kept first, and the numbers of a run that was finished with it go: they
    are not those of the data set any more. The report stays.
    """
    keep_version(store)
    tables = [top_up.kept, *(read_table(level.path(store)) for level in levels)]
    rows = commit_manifest(store.manifest, tables)
    names = sorted(pc.unique(rows.column("shard")).to_pylist())
    refs = {"train": present(store.generated, names)}
    write_info(store.generated, {"class_names": list(class_names)}, refs)
    remove(store.result)
    version = keep_version(store)
    manifest_committed(store, rows, version)
    return version
