"""`discl plan`: a plan in numbers, made in this process without Prefect or Ray."""

import numpy as np
from rich.console import Console
from rich.table import Table

from generators.errors import DataError
from generators.fit_spec import FitSpec
from generators.places import Place, file_exists
from generators.registry import MethodSpec, from_params
from infra.config import RunConfig
from infra.jobs.checks import check_config
from infra.jobs.fit import fit_folder
from infra.jobs.inspect import NO_BACKBONE, BackboneFacts, check_class_names, inspect_backbone
from infra.jobs.preview import Preview, preview
from infra.storage.runs import RunStore, lending_stores, run_store
from infra.storage.shards import file_sha256
from infra.workers.base import available_cpus
from infra.workers.local import LocalPool

MAX_CLASSES = 40  # rows of the table; the rest is summed up


def show_plan(config: RunConfig, output: str | None, reuse: list[str]) -> None:
    """Prints what a run would make."""
    console = Console()
    store = run_store(output) if output else None
    stores = [store, *lending_stores(reuse)]
    num_workers = config.workers.count or available_cpus()
    check_config(config)
    with console.status("timing the generator"):
        facts = _facts(config, store, config.workers.threads or available_cpus() // num_workers)
    plan = preview(config, stores, facts, num_workers)
    check_class_names(facts, _planned_classes(plan))
    console.print(_table(plan))
    for name, text in _items(plan, facts, num_workers):
        console.print(f"[bold]{name:<18}[/bold] {text}", highlight=False, soft_wrap=True)
    for note in plan.notes:
        console.print(f"[yellow]note[/yellow] {note}", highlight=False, soft_wrap=True)


def _items(plan: Preview, facts: BackboneFacts, num_workers: int) -> list[tuple[str, str]]:
    """What the images are and cost, as (name, text)."""
    if not plan.counts:
        return [("images", "none: there are no generation.levels, all arms see real images alone")]
    total = sum(int(counts.sum()) for counts in plan.counts.values())
    items = [
        ("images", f"{total:,}"),
        ("in the output", ", ".join(f"{count:,} {name}" for name, count in plan.images.items())),
        ("model evaluations", f"{plan.model_calls:,} for what is new"),
        ("bytes", f"about {plan.num_bytes / 1e6:,.1f} MB for what is new or copied"),
        ("time", f"about {_duration(plan.seconds)} on {num_workers} workers, {_rate(facts)}"),
    ]
    if plan.unread:
        items.insert(1, ("not made", _unread(plan)))
    return items


def _facts(config: RunConfig, store: RunStore | None, threads: int) -> BackboneFacts:
    if not config.generation.levels:
        return NO_BACKBONE
    backbone = config.generation.backbone
    if backbone is None:
        found = _fitted(config, store) if store else None
        if found is None:
            raise DataError(
                "generation.fit: the generator is not trained yet, so its speed and the keys of "
                "its images are not known; run `discl generate` first"
            )
        backbone = MethodSpec(name="pixel_unet", params={"path": str(found)})
    with LocalPool(max(1, threads)).lease() as worker:
        return worker.run(inspect_backbone, backbone, config, True, on_progress=lambda _: None)


def _fitted(config: RunConfig, store: RunStore) -> Place | None:
    """The folder of the generator that was trained for this config on the images of the store."""
    if not file_exists(store.real_manifest):
        return None
    spec = from_params(FitSpec, config.generation.fit or {}, "generation.fit")
    folder = fit_folder(store, spec, file_sha256(store.real_manifest))
    return folder if file_exists(folder / "card.json") else None


def _planned_classes(plan: Preview) -> list[str]:
    planned = sum(plan.counts.values(), start=np.zeros(len(plan.class_names), dtype=np.int64))
    return [name for name, count in zip(plan.class_names, planned, strict=True) if count]


def _table(plan: Preview) -> Table:
    levels = sorted(plan.counts)
    title = "images per class and image-guidance level" if levels else "images per class"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    table.add_column("split")
    table.add_column("real", justify="right")
    for level in levels:
        table.add_column(f"{level} %", justify="right")
    order = np.argsort(-plan.class_counts, kind="stable")
    for label in order[:MAX_CLASSES]:
        made = [f"{int(plan.counts[level][label]):,}" for level in levels]
        real = f"{int(plan.class_counts[label]):,}"
        table.add_row(plan.class_names[label], str(plan.shots[label]), real, *made)
    rest = order[MAX_CLASSES:]
    if len(rest):
        made = [f"{int(plan.counts[level][rest].sum()):,}" for level in levels]
        real = f"{int(plan.class_counts[rest].sum()):,}"
        table.add_row(f"{len(rest)} more classes", "", real, *made)
    sums = [f"{int(plan.counts[level].sum()):,}" for level in levels]
    table.add_section()
    table.add_row("all", "", f"{int(plan.class_counts.sum()):,}", *sums)
    return table


def _unread(plan: Preview) -> str:
    levels = ", ".join(f"{level} %" for level in plan.unread)
    return (
        f"not read by any arm: {levels}; saves {sum(plan.unread.values()):,} images and "
        f"{plan.unread_calls:,} model evaluations"
    )


def _rate(facts: BackboneFacts) -> str:
    return f"{1 / max(facts.seconds_per_call, 1e-9):,.0f} evaluations/s each"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
