"""The comparisons that run in one process. Each returns measurements by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engine_parts.effort import Effort
from benchmarks.engine_parts.measure import (
    Measurement,
    compared,
    fastest,
    interleaved,
    ratios,
    summary,
)
from benchmarks.engine_parts.ours import (
    ready_programs,
    run_bare,
    run_engine,
)
from benchmarks.engine_parts.workload import (
    ALL_LEVELS,
    READ_LEVELS,
    Recipe,
    requests_for,
)
from generators.backbones.base import Backbone
from generators.backbones.toy import Toy
from generators.engine import Engine
from generators.records import GenerationRequest, num_denoising_steps
from generators.registry import MethodSpec

DISCL_SCALE, USUAL_SCALE = 10.0, 7.5
FILL_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model as both sides load it.

    Attributes:
        name: `tiny` or `large`.
        spec: how our side loads it.
        backbone: our side, loaded.
        compiled: our side again, with the whole network compiled; None where that takes too long.
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
    compiled: tuple[MethodSpec, Backbone] | None
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
