"""What a data set that grows still lacks: new real images, and synthetic ones under a budget.

Knows what is there and what is planned; reads no image, generates nothing.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curriculum.allot import allot
from curriculum.plan import GenerationPlan
from curriculum.schedules.base import Cells, GenerationSchedule
from generators.errors import ConfigError, DataError
from generators.places import file_exists
from generators.records import WORKER_DIED
from infra.config import RunConfig
from infra.jobs.dataset import SPLITS, Dataset, Selection
from infra.jobs.planning import HardImages, num_steps, wanted_images
from infra.storage.manifest import GENERATED_SCHEMA, read_manifest
from infra.storage.runs import RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one top-up may cost; None: no limit.

    Attributes:
        images: most synthetic images.
        evaluations: most model evaluations.
    """

    images: int | None = None
    evaluations: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("evaluations", self.evaluations)):
            if value is not None and value < 1:
                raise ConfigError(f"budget_{name}", value, "at least 1, or none for no limit")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spending:
    """How a budget is spent.

    Attributes:
        budget: most that may be spent.
        schedule: decides, if there is one; else the rarest classes come first.
        gains: what the schedule knows, (num_classes, levels of the plan ascending); None: nothing.
    """

    budget: Budget
    schedule: GenerationSchedule | None = None
    gains: Cells | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopUp:
    """What is made now, and what stays.

    Attributes:
        plan: the images to be made.
        missing: images of the whole plan that are not there, these included.
        kept: rows of the manifest before that stay.
        changed: whether there will be another manifest at all.
    """

    plan: GenerationPlan
    missing: int
    kept: pa.Table
    changed: bool


def new_images(config: RunConfig, selection: Selection, real: pa.Table) -> Selection:
    """The images of a source that are not ingested yet.

    Those that are keep their split. New ones get the source's own, or else are for training: a
    test set that changed could not be compared with.

    Args:
        config: of the run.
        selection: of the source as it is now.
        real: the real manifest.

    Raises:
        DataError: the classes have other numbers than before.
        ConfigError: the data set is subsampled: what is new cannot be told.
    """
    images, known = selection.images, set(real.column("origin").to_pylist())
    labels, names = real.column("label").to_pylist(), real.column("class_name").to_pylist()
    for label, name in sorted(set(zip(labels, names, strict=True))):
        now = images.class_names[label] if label < len(images.class_names) else None
        if now != name:
            raise DataError(
                f"data.source: class {label} was {name!r} and is {now!r} now; classes are numbered "
                "by name, so a new one needs a new output (--reuse copies the images of this one)"
            )
    split = {
        name: np.array([i for i in rows if images.origin(int(i)) not in known], dtype=np.int64)
        for name, rows in selection.split.items()
    }
    if config.data.long_tail and any(len(rows) for rows in split.values()):
        allowed = "none, where images are added: which ones are kept would change"
        raise ConfigError("data.long_tail", config.data.long_tail.max_count, allowed)
    if images.splits is None:
        empty = np.empty(0, dtype=np.int64)
        split = dict.fromkeys(SPLITS, empty) | {
            "train": np.sort(np.concatenate([split[name] for name in SPLITS]))
        }
    return Selection(images=images, split=split)


def choose(
    config: RunConfig,
    dataset: Dataset,
    hard: HardImages,
    plan: GenerationPlan,
    spending: Spending,
    store: RunStore,
) -> TopUp:
    """What of a plan is made now, and which rows of the manifest stay.

    Missing are requests of the plan that the manifest does not have. The rarest classes come first,
    in each the first image of every source and level before the second; or a schedule decides how
    many are made of each class and level.
    """
    earlier = read_manifest(store.manifest) if file_exists(store.manifest) else _no_rows()
    tried = earlier.filter(pc.not_equal(earlier["reason"], WORKER_DIED))  # others are missing
    keys = plan.keys(np.arange(len(plan)))
    known = set(tried.column("key").to_pylist())
    missing = np.array([row for row, key in enumerate(keys) if key not in known], dtype=np.int64)
    if spending.schedule is None:
        chosen = _rarest(config, plan, missing, dataset.class_counts(), spending.budget)
    else:
        chosen = _directed(config, plan, missing, spending)
    chosen = np.sort(chosen)
    now = replace(
        plan, source=plan.source[chosen], level=plan.level[chosen], seed=plan.seed[chosen]
    )
    kept = _kept(tried, set(keys), now, wanted_images(config, dataset, hard))
    changed = len(chosen) > 0 or kept.num_rows != earlier.num_rows
    return TopUp(plan=now, missing=len(missing), kept=kept, changed=changed)


def _rarest(
    config: RunConfig,
    plan: GenerationPlan,
    missing: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    budget: Budget,
) -> NDArray[np.int64]:
    """The missing rows that a budget allows, the rarest classes first."""
    labels = plan.sources.labels[plan.source[missing]]
    rows = missing[np.lexsort((missing, plan.seed[missing], labels, class_counts[labels]))]
    if budget.evaluations is not None:
        each = _costs(config, plan)
        costs = np.cumsum([each[level] for level in plan.level[rows].tolist()])
        rows = rows[: int(np.searchsorted(costs, budget.evaluations, side="right"))]
    return rows[: budget.images]


def _directed(
    config: RunConfig, plan: GenerationPlan, missing: NDArray[np.int64], spending: Spending
) -> NDArray[np.int64]:
    """The missing rows that a schedule spends a budget on; of each cell the first seeds first."""
    assert spending.schedule is not None
    levels, budget = sorted(plan.levels()), spending.budget
    labels = plan.sources.labels[plan.source[missing]]
    columns = np.searchsorted(levels, plan.level[missing])
    counts = np.zeros((len(plan.template.class_names), len(levels)), dtype=np.int64)
    np.add.at(counts, (labels, columns), 1)
    gains = np.full(counts.shape, np.nan) if spending.gains is None else spending.gains
    each = _costs(config, plan)
    for limit, costs in (
        (budget.evaluations, [each[level] for level in levels]),
        (budget.images, [1.0] * len(levels)),
    ):
        if limit is not None:
            counts = allot(spending.schedule, gains, counts, np.array(costs, dtype=float), limit)
    order = np.lexsort((missing, plan.seed[missing], columns, labels))
    cells = labels[order] * len(levels) + columns[order]
    rank = np.arange(len(cells)) - np.searchsorted(cells, cells)
    return missing[order][rank < counts[labels[order], columns[order]]]


def _costs(config: RunConfig, plan: GenerationPlan) -> dict[int, float]:
    """Model evaluations of an image at each level."""
    run, steps = num_steps(config), config.generation.num_inference_steps
    calls = config.generation.calls_per_step
    return {level: run(steps, level) * calls for level in plan.levels()}


def _kept(
    earlier: pa.Table, planned: set[str], now: GenerationPlan, wanted: NDArray[np.int64]
) -> pa.Table:
    """Rows that the plan has, and accepted others while their class and level want for images.

    When a class gets a source more, the plan spreads its images anew: those it no longer names
    are as good as they were, until the ones that take their place are made. A class that has left
    the tail gets nothing more, and keeps what it has.
    """
    keys, statuses = earlier.column("key").to_pylist(), earlier.column("status").to_pylist()
    labels = earlier.column("label").to_pylist()
    cells = list(zip(labels, earlier.column("image_guidance").to_pylist(), strict=True))
    now_labels = now.sources.labels[now.source].tolist()
    there = Counter(zip(now_labels, now.level.tolist(), strict=True))
    keep = [key in planned for key in keys]
    there.update(cell for cell, kept in zip(cells, keep, strict=True) if kept)
    for row, cell in enumerate(cells):
        left_the_tail = wanted[cell[0]] == 0
        wanting = left_the_tail or there[cell] < wanted[cell[0]]
        if not keep[row] and statuses[row] == "ok" and wanting:
            keep[row] = True
            there[cell] += 1
    return earlier.filter(pa.array(keep, pa.bool_()))


def _no_rows() -> pa.Table:
    return GENERATED_SCHEMA.empty_table()
