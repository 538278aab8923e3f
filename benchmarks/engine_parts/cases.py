"""The comparisons that run in one process. Each returns measurements by name."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.engine_parts.baselines import discl_loop, img2img
from benchmarks.engine_parts.effort import Effort
from benchmarks.engine_parts.measure import (
    Measurement,
    Side,
    compared,
    fastest,
    interleaved,
    ratios,
    summary,
)
from benchmarks.engine_parts.ours import (
    base_shard,
    ingest,
    ready_programs,
    render,
    run_bare,
    run_engine,
    run_job,
    shards_of,
)
from benchmarks.engine_parts.workload import (
    ALL_LEVELS,
    READ_LEVELS,
    Recipe,
    pictures,
    requests_for,
    write_pictures,
)
from generators.backbones.base import Backbone
from generators.backbones.toy import Toy
from generators.engine import Engine
from generators.records import GenerationRequest, num_denoising_steps
from generators.registry import MethodSpec
from infra.workers.base import WorkerContext

DISCL_SCALE, USUAL_SCALE = 10.0, 7.5
FILL_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model as both sides load it.

    Attributes:
        name: `tiny` or `large`.
        spec: how our side loads it.
        backbone: our side, loaded.
        pipeline: diffusers' side, loaded from the same folder.
        image_size: side, pixels.
        sources: of a comparison with the pipeline.
        job_sources: of a comparison with DisCL's loop, our side.
        loop_sources: of DisCL's loop.
        batches: rows, to choose from.
    """

    name: str
    spec: MethodSpec
    backbone: Backbone
    pipeline: Any
    image_size: int
    sources: int
    job_sources: int
    loop_sources: int
    batches: tuple[int, ...]


def engine_over_bare(
    backbone: Backbone, batches: tuple[int, ...], num_sources: int, effort: Effort
) -> Measurement:
    """Model evaluations a second of the engine over bare forward passes at the same batch size."""
    recipe = Recipe(levels=READ_LEVELS, steps=effort.steps, guidance_scale=USUAL_SCALE)
    requests = requests_for([f"source-{i}" for i in range(num_sources)], recipe, backbone)
    size, seconds = fastest(
        batches, lambda size: run_bare(backbone, size, max(batches)), effort.clock
    )
    engine = Engine(backbone, size)

    def ours(repetition: int) -> float:
        return run_engine(engine, ready_programs(backbone, requests))

    rows = 2 * sum(num_denoising_steps(recipe.steps, r.image_guidance) for r in requests)
    run_bare(backbone, size, 2 * size)
    run_engine(engine, ready_programs(backbone, requests[:2]))
    engine = Engine(backbone, size)
    sides = {"engine": ours, "bare": lambda _: run_bare(backbone, size, rows)}
    found = interleaved(sides, effort.repetitions, effort.clock)
    over = [a - b for a, b in zip(found["engine"], found["bare"], strict=True)]
    return compared(
        ratios(found["bare"], found["engine"]),
        "evaluations/s of whole runs of the engine (noise, sampler, guidance, packing, the last "
        "batches that are not full) over evaluations/s of backbone.forward on fixed full batches; "
        "both in inference mode",
        batch_size=size,
        batch_fill=engine.stats.batch_fill,
        rows=rows,
        seconds_per_row={name: summary(values) for name, values in found.items()},
        seconds_per_row_by_batch=seconds,
        overhead_seconds_per_row=summary(over)["median"],
    )


def over_diffusers(subject: Subject, effort: Effort, steps: int) -> dict[str, Measurement]:
    """Images/s over the pipeline's: the three levels that are read, and lazy ones over all ten."""
    recipe = Recipe(levels=READ_LEVELS, steps=steps, guidance_scale=USUAL_SCALE)
    images = pictures(subject.sources, subject.image_size)
    requests = requests_for(list(images), recipe, subject.backbone)
    short = replace(recipe, levels=(50,), steps=min(steps, 8))
    ready = list(images.values())

    def probe_theirs(rows: int) -> float:
        img2img(subject.pipeline, ready, short, 50, rows // 2)
        return len(ready)

    def probe_ours(rows: int) -> float:
        return len(
            render(
                subject.backbone, requests_for(list(images), short, subject.backbone), images, rows
            )
        )

    probe_theirs(subject.batches[0])
    probe_ours(subject.batches[0])
    their_rows, their_seconds = fastest(subject.batches, probe_theirs, effort.clock)
    our_rows, our_seconds = fastest(subject.batches, probe_ours, effort.clock)

    def theirs(levels: tuple[int, ...]) -> float:
        for level in levels:
            img2img(subject.pipeline, ready, recipe, level, their_rows // 2)
        return len(ready)

    rest = tuple(
        level
        for level in ALL_LEVELS
        if level not in READ_LEVELS and num_denoising_steps(steps, level) > 0
    )
    sides: dict[str, Side] = {
        "ours": lambda _: (
            len(render(subject.backbone, requests, images, our_rows)) / len(READ_LEVELS)
        ),
        "theirs": lambda _: theirs(READ_LEVELS),
    }
    if effort.lazy:
        sides["theirs, the other levels"] = lambda _: theirs(rest)
    found = interleaved(sides, effort.repetitions, effort.clock)
    details = {
        "steps": steps,
        "guidance_scale": USUAL_SCALE,
        "sources": len(ready),
        "batch_size": {"ours, rows": our_rows, "theirs, images": their_rows // 2},
        "seconds_per_image_by_rows": {"ours": our_seconds, "theirs": their_seconds},
        "seconds_per_source": {name: summary(values) for name, values in found.items()},
    }
    measured = {
        "over_diffusers": compared(
            ratios(found["theirs"], found["ours"]),
            "images/s over StableDiffusionImg2ImgPipeline's, one call per strength and batch with "
            "lists of images and prompts; levels 10, 30, 50 %; DDIM; PIL images in, PIL images out",
            **details,
        )
    }
    if effort.lazy:
        others = found["theirs, the other levels"]
        measured["lazy_over_diffusers"] = compared(
            ratios([a + b for a, b in zip(found["theirs"], others, strict=True)], found["ours"]),
            "sources/s with the three levels that are read over sources/s of the pipeline with all "
            "ten (0 to 90 %)",
            **details,
        )
    return measured


def over_discl_loop(
    subject: Subject, size: int, effort: Effort, folder: Path
) -> dict[str, Measurement]:
    """Images/s over DisCL's loop, files in, files out; and with lazy levels.

    Args:
        subject: the model.
        size: of our batches, rows.
        effort: how much is measured.
        folder: for files; removed at the end.
    """
    recipe = Recipe(levels=ALL_LEVELS, steps=effort.steps, guidance_scale=DISCL_SCALE)
    context = WorkerContext(device="cpu", threads=1)

    jobs = subject.job_sources
    sides = {"ours": jobs, "theirs": subject.loop_sources, "lazy": jobs}
    runs = range(effort.repetitions + 1)  # the last one warms up
    inputs = {
        (side, run): write_pictures(
            folder / f"{side}-{run}" / "in", (1000 * number + 100 * run), count, subject.image_size
        )
        for number, (side, count) in enumerate(sides.items())
        for run in runs
    }

    def theirs(run: int) -> float:
        files, target = inputs["theirs", run], folder / f"theirs-{run}" / "out"
        return len(list(discl_loop(subject.pipeline, files, recipe, subject.image_size, target)))

    def ours(side: str, run: int, levels: tuple[int, ...]) -> float:
        target = folder / f"{side}-{run}"
        rows = ingest(target / "in", subject.image_size, target / "real")
        asked = requests_for(sorted(rows), replace(recipe, levels=levels), subject.backbone)
        base = base_shard(subject.spec, size, target, rows)
        return run_job(context, shards_of("shard", asked, 100, base))

    ours("ours", runs[-1], (90,))  # loads the network, times its rows
    measures: dict[str, Side] = {
        "ours": lambda run: ours("ours", run, ALL_LEVELS),
        "theirs": theirs,
    }
    if effort.lazy:
        measures["lazy"] = lambda run: ours("lazy", run, READ_LEVELS)
    found = interleaved(measures, effort.repetitions, effort.clock)
    shutil.rmtree(folder)
    details = {
        "steps": effort.steps,
        "guidance_scale": DISCL_SCALE,
        "sources": sides,
        "batch_size": size,
        "seconds_per_image": {name: summary(values) for name, values in found.items()},
    }
    measured = {
        "over_discl_loop": compared(
            ratios(found["theirs"], found["ours"]),
            "images/s of ingestion and the generating job (JPEG files in, shards of PNG with tar "
            "and Parquet twin out) over a loop of one image a call (JPEG files in, PNG files out); "
            "all ten levels on both sides",
            **details,
        )
    }
    if effort.lazy:
        lazy = [len(READ_LEVELS) * value for value in found["lazy"]]
        measured["lazy_over_discl_loop"] = compared(
            ratios([len(ALL_LEVELS) * value for value in found["theirs"]], lazy),
            "sources/s with the three levels that are read over sources/s of the loop with all ten",
            **details,
        )
    return measured


def mean_batch_fill(effort: Effort) -> Measurement:
    """Mean rows a batch over a run of all ten levels, as a share of the batch size.

    On an exact mixture, which takes little time: how rows are packed does not depend on weights.
    """
    recipe = Recipe(levels=ALL_LEVELS, steps=effort.steps, guidance_scale=DISCL_SCALE)
    backbone = Toy(means={"fox": [[0.0, 0.0]], "owl": [[1.0, 1.0]]}).load("cpu")
    sources = [f"source-{i}" for i in range(effort.fill_images // len(ALL_LEVELS))]
    requests = requests_for(sources, recipe, backbone)
    mixed = sorted(requests, key=lambda request: request.source_key)

    def fill(asked: Sequence[GenerationRequest], size: int) -> float:
        engine = Engine(backbone, size)
        run_engine(engine, ready_programs(backbone, asked))
        return engine.stats.batch_fill

    fills = {size: fill(mixed, size) for size in effort.fill_batches}
    return compared(
        [fills[FILL_BATCH]],
        f"one run of {len(requests)} images with guidance in batches of {FILL_BATCH} rows, the "
        "last batches included; all levels from 0 to 90 % of a source follow each other",
        by_batch_size=fills,
        by_batch_size_level_by_level={size: fill(requests, size) for size in effort.fill_batches},
        batch_size=FILL_BATCH,
    )
