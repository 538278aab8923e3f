"""Our side: the engine alone, images as the generating job makes them, and the whole job."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.engine_parts.workload import PicturesInMemory
from generators.backbones.base import Backbone
from generators.cache import ROWS, Encoder
from generators.engine import Engine
from generators.program import Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build
from generators.render import Job, Renderer
from infra.jobs.finishing import to_bytes_range
from infra.jobs.generate import generate_shards
from infra.jobs.images import PixelFormat
from infra.jobs.ingest import IngestShard, ingest_shard, listing_hash
from infra.jobs.shard_work import GenerateShard
from infra.jobs.sources import programs
from infra.storage.shards import read_rows
from infra.workers.base import WorkerContext
from infra.workers.local import LocalWorker

CACHE_BYTES = 512 * 2**20


def load(spec: MethodSpec) -> Backbone:
    """A backbone on the CPU."""
    backbone: Backbone = build("backbone", spec).load("cpu")
    return backbone


def ready_programs(
    backbone: Backbone, requests: Sequence[GenerationRequest]
) -> Iterator[tuple[int, Program[Tensor]]]:
    """Programs of requests whose sources and prompts are encoded beforehand."""
    renderer = Renderer(backbone)
    distinct = {(request.prompt, request.class_name) for request in requests}
    conds = {pair: backbone.condition([pair[0]], [pair[1]])[0] for pair in sorted(distinct)}
    sources = torch.randn(
        (len(requests), *backbone.sample_shape), generator=torch.Generator().manual_seed(0)
    )
    jobs = [
        Job(request=request, source=source, cond=conds[(request.prompt, request.class_name)])
        for request, source in zip(requests, sources, strict=True)
    ]
    return ((index, renderer.program(job)) for index, job in enumerate(jobs))


def run_engine(engine: Engine, made: Iterator[tuple[int, Program[Tensor]]]) -> int:
    """Model evaluations of a run to its end."""
    before = engine.stats.num_model_calls
    for finished in engine.run(made):
        assert finished.value is not None
    return engine.stats.num_model_calls - before


@torch.inference_mode()
def run_bare(backbone: Backbone, batch_size: int, rows: int) -> int:
    """Nothing but forward passes of full batches; returns the rows evaluated, `rows` or more."""
    x_t, timesteps, cond = bare_inputs(backbone, batch_size)
    batches = math.ceil(rows / batch_size)
    for _ in range(batches):
        backbone.forward(x_t, timesteps, cond)
    return batches * batch_size


def bare_inputs(backbone: Backbone, batch_size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A full batch: x_t, timesteps, conditioning."""
    name = (backbone.class_names or ("",))[0]
    one = backbone.condition(["a photo"], [name])[0]
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn((batch_size, *backbone.sample_shape), generator=generator)
    levels = backbone.schedule.levels(10)
    timesteps = torch.tensor([levels[row % 10].timestep for row in range(batch_size)])
    return x_t, timesteps, {key: torch.cat([value] * batch_size) for key, value in one.items()}


def render(
    backbone: Backbone,
    requests: Sequence[GenerationRequest],
    images: Mapping[str, Image.Image],
    batch_size: int,
    *,
    pad: bool = False,
) -> list[Image.Image]:
    """Images of requests, by the parts of the generating job; nothing is kept between calls."""
    engine = Engine(backbone, batch_size, pad=pad)
    encoder = Encoder(backbone, CACHE_BYTES, pad=pad)
    sources: Any = PicturesInMemory(images)
    group: list[tuple[int, Tensor]] = []
    made: dict[int, Image.Image] = {}
    for finished in engine.run(programs(enumerate(requests), sources, encoder, Renderer(backbone))):
        assert finished.value is not None
        group.append((finished.key, finished.value))
        if len(group) == ROWS:
            made |= decoded(backbone, group)
            group = []
    made |= decoded(backbone, group)
    return [made[index] for index in range(len(requests))]


@torch.inference_mode()
def decoded(backbone: Backbone, group: Sequence[tuple[int, Tensor]]) -> dict[int, Image.Image]:
    """Samples as 8-bit images."""
    if not group:
        return {}
    pixels = to_bytes_range(backbone.decode(torch.stack([sample for _, sample in group])))
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return {key: Image.fromarray(array) for (key, _), array in zip(group, arrays, strict=True)}


def ingest(folder: Path, image_size: int, real_folder: Path) -> dict[str, dict[str, Any]]:
    """Ingests a class folder of pictures; returns source key to row."""
    source = MethodSpec(name="folder", params={"path": str(folder)})
    listed = build("source", source).open()
    indices = tuple(range(len(listed.labels)))
    shard = IngestShard(
        source=source,
        split="train",
        indices=indices,
        listing=listing_hash(listed, indices),
        folder=real_folder,
        form=PixelFormat(channels=3, image_size=image_size),
        extension="jpg",
        jpeg_quality=95,
    )
    worker = LocalWorker(WorkerContext(device="cpu", threads=1))
    ref = worker.run(ingest_shard, shard, on_progress=lambda _: None)
    return {row["key"]: row for row in read_rows(real_folder, ref.name).to_pylist()}


def base_shard(
    spec: MethodSpec,
    batch_size: int,
    folder: Path,
    rows: Mapping[str, Mapping[str, Any]],
    *,
    deterministic: bool = False,
) -> GenerateShard:
    """Settings of the shards of a job, without requests.

    Args:
        spec: of the backbone.
        batch_size: rows.
        folder: holds the ingested sources in `real`; the shards go to `generated`.
        rows: of the sources.
        deterministic: whether all batches have one shape.
    """
    return GenerateShard(
        name="",
        requests=(),
        backbone=spec,
        batch_size=batch_size,
        deterministic=deterministic,
        folder=folder / "generated",
        real_folder=folder / "real",
        sources=rows,
        extension="png",
        jpeg_quality=95,
    )


def shards_of(
    name: str, requests: Sequence[GenerationRequest], per_shard: int, base: GenerateShard
) -> tuple[GenerateShard, ...]:
    """Requests cut into shards with the settings of `base`."""
    return tuple(
        replace(
            base, name=f"{name}-{start:05d}", requests=tuple(requests[start : start + per_shard])
        )
        for start in range(0, len(requests), per_shard)
    )


def run_job(context: WorkerContext, shards: tuple[GenerateShard, ...]) -> int:
    """The generating job, in this process; returns how many images it stored."""
    made = LocalWorker(context).run(generate_shards, shards, on_progress=lambda _: None)
    return sum(shard.ref.num_samples for shard in made)
