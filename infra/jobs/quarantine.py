"""Shards that are given up because their worker died every time, and tried again on demand.

Such a shard is written without the images that were not made: rows with the status `failed` and the
reason `worker_died`. Its name is the hash of its requests, as ever; a record in `quarantine/` says
that its bytes are not what these requests give.
"""

from dataclasses import dataclass
from typing import Any, Final

from curriculum.plan import shard_level
from generators.places import Place, file_exists
from generators.records import WORKER_DIED
from infra.jobs.shard_work import (
    GeneratedShard,
    GenerateShard,
    ShardCost,
    ShardWork,
    finished_shard,
)
from infra.storage.atomic import read_json, read_table, write_json
from infra.storage.files import folders_in, remove, remove_folder, sizes_in
from infra.storage.runs import RunStore
from infra.storage.tar import table_path, tar_path

SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A shard that was given up.

    Attributes:
        shard: its name.
        images: that were not made.
        error: of the last death.
    """

    shard: str
    images: int
    error: str


def give_up(shard: GenerateShard, store: RunStore, error: str) -> GeneratedShard:
    """Writes a shard without the images that are missing; what others hold of it is kept.

    The record comes first: rows without it would look like what the requests give.
    """
    made = finished_shard(shard)
    if made is not None:
        return made
    work = ShardWork(shard=shard)
    for row, _ in work.to_make():
        work.add(row, None, WORKER_DIED)
    write_json(
        _record(store, shard.name),
        {"shard": shard.name, "images": len(work.images), "error": error},
    )
    return GeneratedShard(ref=work.write(ShardCost()), cost=ShardCost())


def quarantined(store: RunStore) -> list[Quarantined]:
    """The shards that were given up, by name."""
    names = [name for name in sizes_in(store.quarantine) if name.endswith(SUFFIX)]
    return [Quarantined(**read_json(store.quarantine / name)) for name in names]


def given_up(store: RunStore) -> str:
    """What the manifest lacks because shards were given up, in a line; empty where nothing."""
    found = quarantined(store)
    if found and file_exists(store.manifest):  # what it does not name is not wanted any more
        named = set(read_table(store.manifest, ["shard"])["shard"].unique().to_pylist())
        found = [each for each in found if each.shard in named]
    if not found:
        return ""
    images = sum(each.images for each in found)
    return f"{len(found)} shards were given up ({images} images), the last with: {found[-1].error}"


def release(store: RunStore) -> list[Quarantined]:
    """Forgets what was given up, and all that was made without its images; the next run makes it.

    Stopped in the middle and called again, it comes to the same end: the record goes last.
    """
    found = quarantined(store)
    if not found:
        return []
    remove(store.result)
    levels = {shard_level(each.shard) for each in found}
    for folder in folders_in(store.training):
        if _lacks(folder, levels):
            remove_folder(folder)
    scores = sizes_in(store.scores)
    for each in found:
        for name in scores:
            if name.startswith(f"{each.shard}-"):
                remove(store.scores / name)
        remove(table_path(store.generated, each.shard))
        remove(tar_path(store.generated, each.shard))
        remove(_record(store, each.shard))
    return found


def _lacks(training: Place, levels: set[int]) -> bool:
    """Whether a training has seen one of these levels, or may have: it had not come to its end."""
    result = training / "result.json"
    if not file_exists(result):
        return True
    epochs: list[dict[str, Any]] = read_json(result)["epochs"]
    return any(epoch["mixture"].get(str(level), 0) for epoch in epochs for level in levels)


def _record(store: RunStore, shard: str) -> Place:
    return store.quarantine / f"{shard}{SUFFIX}"
