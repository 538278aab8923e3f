"""What a run would generate, found without generating: counts, costs, and what is there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curriculum.plan import GenerationPlan
from generators.places import file_exists
from infra.config import RunConfig
from infra.config.schema import DataConfig, ShardsConfig
from infra.jobs.dataset import Dataset, Selection, open_dataset, origin_keys, select
from infra.jobs.ingest import REAL_SCHEMA
from infra.jobs.inspect import BackboneFacts
from infra.jobs.planning import (
    HardImages,
    hard_images,
    needs_logits,
    num_steps,
    plan_generation,
    stored_form,
)
from infra.jobs.reuse import find_copies
from infra.storage.files import sizes_in
from infra.storage.runs import RunStore
from infra.storage.shards import read_refs

THRESHOLDS = frozenset({"many_above", "few_below"})  # of `data`: they choose, and change no image
BYTES_PER_MEMBER = 768  # a tar header, and half a block of padding on average
BYTES_PER_VALUE = {"png": 0.7, "jpg": 0.35}  # of photographs, per pixel and channel; a guess


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """A plan in numbers.

    Attributes:
        class_names: by label.
        class_counts: real training images per class.
        shots: many, medium or few per class.
        counts: level to images per class, in the order in which levels are made.
        unread: level to images of the levels that no arm reads: they are not made.
        unread_calls: model evaluations that this saves.
        model_calls: model evaluations of what is new.
        num_bytes: of what is new or copied, about.
        seconds: of what is new on all workers, about.
        images: `new`, `reused` (in shards as planned), `copied` (from other shards) and `stale`
            (in shards that are not planned).
        notes: what the numbers leave out.
    """

    class_names: tuple[str, ...]
    class_counts: NDArray[np.int64]
    shots: NDArray[np.str_]
    counts: dict[int, NDArray[np.int64]]
    unread: dict[int, int]
    unread_calls: int
    model_calls: int
    num_bytes: int
    seconds: float
    images: dict[str, int]
    notes: tuple[str, ...]


def preview(
    config: RunConfig,
    stores: Sequence[RunStore | None],
    facts: BackboneFacts,
    num_workers: int,
) -> Preview:
    """Plans a run against what its output folder holds.

    Args:
        config: of the run.
        stores: its output, if there is one, then other runs whose images may be copied.
        facts: of the generator.
        num_workers: that generate.

    Raises:
        DataError: anything about the data that would stop the run.
    """
    notes: list[str] = []
    dataset = _dataset(config, stores, notes)
    hard = _hard(config, dataset, notes)
    plan = plan_generation(config, dataset, hard, facts.fingerprint)
    images, new_rows = compare_with_stores(plan, config, stores)
    calls_per_step = config.generation.calls_per_step
    calls = plan.num_model_calls(calls_per_step, num_steps(config), new_rows)
    unread, unread_calls = _unread(config, plan, calls_per_step)
    return Preview(
        class_names=dataset.class_names,
        class_counts=dataset.class_counts(),
        shots=dataset.shots(),
        counts=plan.counts(),
        unread=unread,
        unread_calls=unread_calls,
        model_calls=calls,
        num_bytes=(images["new"] + images["copied"]) * bytes_per_image(config.data, config.shards),
        seconds=calls * facts.seconds_per_call / num_workers,
        images=images,
        notes=tuple(notes),
    )


def _dataset(config: RunConfig, stores: Sequence[RunStore | None], notes: list[str]) -> Dataset:
    """The real images as a store holds them, or else as their source lists them."""
    for store in stores:
        if store is not None and _holds_images_of(config.data, store):
            return open_dataset(config.data, store.real_manifest)
    if any(store is not None and file_exists(store.real_manifest) for store in stores):
        notes.append("the output holds other real images; whether images can be reused is open")
    return unread_dataset(config, select(config.data))


def unread_dataset(config: RunConfig, selection: Selection) -> Dataset:
    """The data set as its source lists it: no image has been read, so none is rejected yet."""
    names = np.array(selection.images.class_names, dtype=object)
    labels = selection.images.labels[selection.split["train"]]
    count = len(labels)
    columns: dict[str, Any] = {
        "key": origin_keys(selection),
        "split": ["train"] * count,
        "label": labels,
        "class_name": names[labels].tolist(),
        "status": ["ok"] * count,
    }
    columns |= {name: [""] * count for name in REAL_SCHEMA.names if name not in columns}
    return Dataset(
        rows=pa.table(columns),
        class_names=tuple(selection.images.class_names),
        many_above=config.data.many_above,
        few_below=config.data.few_below,
    )


def bytes_per_image(data: DataConfig, shards: ShardsConfig) -> int:
    """About what one image takes in a shard."""
    extension = shards.extension(data.image_size)
    values = data.image_size**2 * data.channels
    return round(values * BYTES_PER_VALUE[extension]) + 3 * BYTES_PER_MEMBER


def compare_with_stores(
    plan: GenerationPlan, config: RunConfig, stores: Sequence[RunStore | None]
) -> tuple[dict[str, int], NDArray[np.int64]]:
    """Images by whether they are there, or there without being asked for; and the new rows."""
    existing = _shards_there(stores[0]) if stores[0] else {}
    reused, planned = 0, set()
    missing_rows = [np.empty(0, dtype=np.int64)]
    for name, rows in plan.shard_rows(config.shards.images_per_shard):
        planned.add(name)
        if name in existing:
            reused += existing.pop(name)
        else:
            missing_rows.append(rows)
    missing = np.concatenate(missing_rows)
    # without an output, no folder comes first: what is planned may be copied from all
    folders = [store.generated for store in stores if store]
    own = planned if stores[0] else frozenset[str]()
    copies = find_copies(plan, missing, folders, own, stored_form(config))
    new = np.setdiff1d(missing, copies.rows, assume_unique=True)
    images = {
        "new": len(new),
        "reused": reused,
        "copied": len(copies),
        "stale": sum(existing.values()),
    }
    return images, new


def _unread(
    config: RunConfig, plan: GenerationPlan, calls_per_step: float
) -> tuple[dict[int, int], int]:
    """Images at each level that no arm reads, and the model evaluations they would have taken."""
    made = plan.levels()
    unread = [level for level in config.generation.levels if level not in made]
    if not unread:
        return {}, 0
    each = int(plan.counts()[made[0]].sum())
    steps, run = config.generation.num_inference_steps, num_steps(config)
    calls = sum(each * run(steps, level) for level in unread) * calls_per_step
    return dict.fromkeys(unread, each), round(calls)


def _shards_there(store: RunStore) -> dict[str, int]:
    """Name to images of every finished synthetic shard in a store."""
    twins = [name for name in sizes_in(store.generated) if name.endswith(".parquet")]
    names = [name.removesuffix(".parquet") for name in twins if name.startswith("g")]
    refs = read_refs(store.generated, names)
    return {name: ref.num_rows for name, ref in refs.items()}


def _holds_images_of(data: DataConfig, store: RunStore) -> bool:
    """Whether the real images in the store are those that this config asks for."""
    if not file_exists(store.real_manifest) or not file_exists(store.config):
        return False
    stored = dict(store.stored_config()["data"])
    asked = data.model_dump(mode="json")
    return all(stored.get(name) == asked[name] for name in asked.keys() - THRESHOLDS)


def _hard(config: RunConfig, dataset: Dataset, notes: list[str]) -> HardImages:
    if not needs_logits(config):
        return hard_images(config, dataset, None)
    notes.append(
        f"hard set {config.hard_set.name!r} is known only after a classifier is trained; "
        "the counts are of all training images, an upper bound"
    )
    return HardImages(rows=dataset.split("train"))
