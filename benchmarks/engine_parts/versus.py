"""Images a second against what others do. Every comparison takes turns in one process."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.engine_parts.baselines import discl_loop, img2img
from benchmarks.engine_parts.cases import DISCL_SCALE, USUAL_SCALE, Subject
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
from benchmarks.engine_parts.ours import base_shard, ingest, render, run_job, shards_of
from benchmarks.engine_parts.workload import (
    ALL_LEVELS,
    READ_LEVELS,
    Recipe,
    pictures,
    requests_for,
    write_pictures,
)
from generators.backbones.base import Backbone
from generators.records import num_denoising_steps
from generators.registry import MethodSpec
from infra.workers.base import WorkerContext

OURS, COMPILED, THEIRS, OTHERS, LAZY = (
    "ours",
    "ours, compiled",
    "theirs",
    "theirs, the other levels",
    "ours, three levels",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgainstPipeline:
    """The same images by the engine and by diffusers' image-to-image pipeline.

    Attributes:
        subject: the model.
        recipe: levels, steps, scale.
        images: the sources.
    """

    subject: Subject
    recipe: Recipe
    images: Mapping[str, Image.Image]

    def ours(self, recipe: Recipe, rows: int, backbone: Backbone | None = None) -> float:
        """Makes everything; returns the sources. A compiled network gets batches of one shape."""
        chosen = backbone or self.subject.backbone
        asked = requests_for(list(self.images), recipe, chosen)
        made = render(chosen, asked, self.images, rows, pad=backbone is not None)
        return len(made) / len(recipe.levels)

    def theirs(self, recipe: Recipe, rows: int, levels: Sequence[int]) -> float:
        """One call per strength and batch; returns the sources."""
        for level in levels:
            img2img(self.subject.pipeline, list(self.images.values()), recipe, level, rows // 2)
        return len(self.images)

    def batch_sizes(self, effort: Effort) -> tuple[tuple[int, int], dict[str, dict[int, float]]]:
        """The fastest number of rows of both sides, and the seconds of all."""
        short = replace(self.recipe, levels=(50,), steps=min(self.recipe.steps, 8))
        sizes = self.subject.batches
        self.theirs(short, sizes[0], short.levels)
        self.ours(short, sizes[0])
        their_rows, theirs = fastest(
            sizes, lambda rows: self.theirs(short, rows, short.levels), effort.clock
        )
        our_rows, ours = fastest(sizes, lambda rows: self.ours(short, rows), effort.clock)
        return (our_rows, their_rows), {OURS: ours, THEIRS: theirs}


def over_diffusers(subject: Subject, effort: Effort, steps: int) -> dict[str, Measurement]:
    """Images/s over the pipeline's: the three levels that are read, and lazy ones over all ten."""
    recipe = Recipe(levels=READ_LEVELS, steps=steps, guidance_scale=USUAL_SCALE)
    pair = AgainstPipeline(
        subject=subject, recipe=recipe, images=pictures(subject.sources, subject.image_size)
    )
    (our_rows, their_rows), by_rows = pair.batch_sizes(effort)
    runs = [level for level in ALL_LEVELS if num_denoising_steps(steps, level) > 0]
    others = [level for level in runs if level not in READ_LEVELS]
    sides: dict[str, Side] = {
        OURS: lambda _: pair.ours(recipe, our_rows),
        THEIRS: lambda _: pair.theirs(recipe, their_rows, READ_LEVELS),
    }
    if effort.thorough:
        sides[OTHERS] = lambda _: pair.theirs(recipe, their_rows, others)
    if subject.compiled:
        _, compiled = subject.compiled
        pair.ours(replace(recipe, levels=(90,)), our_rows, compiled)  # compiles
        sides[COMPILED] = lambda _: pair.ours(recipe, our_rows, compiled)
    found = interleaved(sides, effort.repetitions, effort.clock)
    details = {
        "steps": steps,
        "guidance_scale": USUAL_SCALE,
        "sources": subject.sources,
        "batch_size": {"ours, rows": our_rows, "theirs, images": their_rows // 2},
        "seconds_per_image_by_rows": by_rows,
        "seconds_per_source": {name: summary(values) for name, values in found.items()},
    }
    return _pipeline_ratios(found, details)


def _pipeline_ratios(
    found: Mapping[str, list[float]], details: Mapping[str, Any]
) -> dict[str, Measurement]:
    same = (
        "images/s over StableDiffusionImg2ImgPipeline's, one call per strength and batch with "
        "lists of images and prompts; levels 10, 30, 50 %; DDIM; PIL images in, PIL images out"
    )
    measured = {
        "over_diffusers": compared(ratios(found[THEIRS], found[OURS]), same, **details),
    }
    if COMPILED in found:
        measured["compiled_over_diffusers"] = compared(
            ratios(found[THEIRS], found[COMPILED]),
            f"{same}; ours with `runtime: {{compile: full}}`, theirs as its users call it",
            **details,
        )
    if OTHERS in found:
        all_ten = [a + b for a, b in zip(found[THEIRS], found[OTHERS], strict=True)]
        measured["lazy_over_diffusers"] = compared(
            ratios(all_ten, found[OURS]),
            "sources/s with the three levels that are read over sources/s of the pipeline with all "
            "ten (0 to 90 %)",
            **details,
        )
    return measured


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgainstLoop:
    """The same images by the generating job and by DisCL's loop, files in, files out.

    Attributes:
        subject: the model.
        recipe: levels, steps, scale.
        size: of our batches, rows.
        folder: for files.
        context: of our worker.
        compiled: of the worker with the compiled network.
    """

    subject: Subject
    recipe: Recipe
    size: int
    folder: Path
    context: WorkerContext
    compiled: WorkerContext

    def pictures(self, side: str, number: int, run: int, count: int) -> Path:
        """Writes the pictures of a side's repetition."""
        at = self.folder / f"{side}-{run}" / "in"
        write_pictures(at, 1000 * number + 100 * run, count, self.subject.image_size)
        return at

    def theirs(self, run: int) -> float:
        """The loop; returns the images."""
        at = self.folder / f"{THEIRS}-{run}"
        files = sorted((at / "in").rglob("*.jpg"))
        side = self.subject.image_size
        return len(list(discl_loop(self.subject.pipeline, files, self.recipe, side, at / "out")))

    def ours(self, side: str, run: int, levels: tuple[int, ...], spec: MethodSpec) -> float:
        """Ingestion and job; returns the images."""
        at = self.folder / f"{side}-{run}"
        rows = ingest(at / "in", self.subject.image_size, at / "real")
        asked = requests_for(
            sorted(rows), replace(self.recipe, levels=levels), self.subject.backbone
        )
        base = base_shard(spec, self.size, at, rows, deterministic=side == COMPILED)
        context = self.compiled if side == COMPILED else self.context
        return run_job(context, shards_of("shard", asked, 100, base))


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
    contexts = [WorkerContext(device="cpu", threads=1) for _ in range(2)]
    pair = AgainstLoop(
        subject=subject,
        recipe=recipe,
        size=size,
        folder=folder,
        context=contexts[0],
        compiled=contexts[1],
    )
    jobs, warm = subject.job_sources, effort.repetitions
    counts = {OURS: jobs, THEIRS: subject.loop_sources}
    sides: dict[str, Side] = {
        OURS: lambda run: pair.ours(OURS, run, ALL_LEVELS, subject.spec),
        THEIRS: pair.theirs,
    }
    if effort.thorough:
        counts[LAZY] = jobs
        sides[LAZY] = lambda run: pair.ours(LAZY, run, READ_LEVELS, subject.spec)
    if subject.compiled:
        spec, _ = subject.compiled
        counts[COMPILED] = jobs
        sides[COMPILED] = lambda run: pair.ours(COMPILED, run, ALL_LEVELS, spec)
    for number, (side, count) in enumerate(counts.items()):
        for run in range(effort.repetitions + 1):  # the last one warms up
            pair.pictures(side, number, run, count)
    pair.ours(OURS, warm, (90,), subject.spec)  # loads the network, times its rows
    if subject.compiled:
        pair.ours(COMPILED, warm, (90,), subject.compiled[0])
    found = interleaved(sides, effort.repetitions, effort.clock)
    shutil.rmtree(folder)
    details = {
        "steps": effort.steps,
        "guidance_scale": DISCL_SCALE,
        "sources": counts,
        "batch_size": size,
        "seconds_per_image": {name: summary(values) for name, values in found.items()},
    }
    return _loop_ratios(found, details)


def _loop_ratios(
    found: Mapping[str, list[float]], details: Mapping[str, Any]
) -> dict[str, Measurement]:
    same = (
        "images/s of ingestion and the generating job (JPEG files in, shards of PNG with tar and "
        "Parquet twin out) over a loop of one image a call (JPEG files in, PNG files out); all ten "
        "levels on both sides"
    )
    measured = {"over_discl_loop": compared(ratios(found[THEIRS], found[OURS]), same, **details)}
    if COMPILED in found:
        measured["compiled_over_discl_loop"] = compared(
            ratios(found[THEIRS], found[COMPILED]),
            f"{same}; ours with `runtime: {{compile: full}}`",
            **details,
        )
    if LAZY in found:
        all_ten = [len(ALL_LEVELS) * value for value in found[THEIRS]]
        three = [len(READ_LEVELS) * value for value in found[LAZY]]
        measured["lazy_over_discl_loop"] = compared(
            ratios(all_ten, three),
            "sources/s with the three levels that are read over sources/s of the loop with all ten",
            **details,
        )
    return measured
