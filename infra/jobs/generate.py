"""Generates one shard of synthetic images on the worker's device and writes it."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from curriculum.data.decode import encode_image
from generators.backbones.base import Backbone, BackboneSpec
from generators.engine import Engine, Finished
from generators.errors import ConfigError
from generators.program import Program
from generators.records import GenerationRequest, SampleRecord
from generators.registry import MethodSpec, build, content_hash
from generators.render import Job, Renderer
from infra.jobs.determinism import deterministic
from infra.jobs.images import PixelFormat, read_pixels
from infra.storage.atomic import read_json, write_json
from infra.storage.manifest import record_rows
from infra.storage.shards import ShardMember, ShardReader, ShardRef, read_ref, write_shard
from infra.workers.base import Progress, WorkerContext


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateShard:
    """A shard of requests, and where its sources and results are.

    Attributes:
        name: of the shard: the hash of its requests.
        requests: what to make.
        backbone: how the network is loaded.
        batch_size: most rows in one model evaluation.
        deterministic: whether the same bytes are wanted every time.
        folder: where the shard goes.
        real_folder: shards of the real images.
        sources: source key to its row: shard, offset, size.
        extension: png or jpg.
        jpeg_quality: 1..100.
    """

    name: str
    requests: tuple[GenerationRequest, ...]
    backbone: MethodSpec
    batch_size: int
    deterministic: bool
    folder: Path
    real_folder: Path
    sources: Mapping[str, Mapping[str, Any]]
    extension: Literal["png", "jpg"]
    jpeg_quality: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedShard:
    """A finished shard and what it cost.

    Attributes:
        ref: the shard.
        num_model_calls: rows evaluated.
        network_seconds: inside the network.
        seconds: from the first to the last line of the job.
        batch_fill: mean rows a batch as a share of the batch size, 0..1.
    """

    ref: ShardRef
    num_model_calls: int
    network_seconds: float
    seconds: float
    batch_fill: float


def generate_shard(
    context: WorkerContext, shard: GenerateShard
) -> Generator[Progress, None, GeneratedShard]:
    """Makes and stores the images of one shard. Doing it twice changes nothing."""
    total = len(shard.requests)
    done = read_ref(shard.folder, shard.name)
    if done:
        yield Progress(done=total, total=total)
        return _with_cost(shard, done)
    started = time.perf_counter()
    backbone = load_backbone(context, shard.backbone)
    if backbone.fingerprint != shard.requests[0].backbone:
        allowed = f"the network the plan was made for ({shard.requests[0].backbone})"
        raise ConfigError("generation.backbone", backbone.fingerprint, allowed)
    engine = Engine(backbone, shard.batch_size)
    records: list[SampleRecord] = []
    with deterministic(shard.deterministic):
        images = yield from _make(shard, engine, records)
        files = list(_encode([sample for _, sample in images], backbone, shard))
    members = [
        _member(request, file, shard) for (request, _), file in zip(images, files, strict=True)
    ]
    order = {request.key: row for row, request in enumerate(shard.requests)}
    records.sort(key=lambda record: order[record.key])
    cost = {
        "num_model_calls": engine.stats.num_model_calls,
        "network_seconds": engine.watch.seconds()["network"],
        "seconds": time.perf_counter() - started,
        "batch_fill": engine.stats.batch_fill,
    }
    # Costs differ from run to run, so they stay out of the shard; before it, as it marks the end.
    write_json(_cost_path(shard), cost)
    ref = write_shard(shard.folder, shard.name, members, record_rows(records))
    return _with_cost(shard, ref)


def _make(
    shard: GenerateShard, engine: Engine, records: list[SampleRecord]
) -> Generator[Progress, None, list[tuple[GenerationRequest, Tensor]]]:
    """Runs all requests; fills `records` in the order they end, and returns the samples."""
    images: list[tuple[GenerationRequest, Tensor]] = []
    total = len(shard.requests)
    for finished in engine.run(_programs(shard, engine.backbone)):
        records.append(_record(shard, finished))
        if finished.value is not None:
            images.append((shard.requests[finished.key], finished.value))
        if len(records) % 8 == 0 or len(records) == total:
            yield Progress(done=len(records), total=total)
    return images


def load_backbone(context: WorkerContext, spec: MethodSpec) -> Backbone:
    """The worker's network; loaded once, kept until another one is asked for."""
    method: BackboneSpec = build("backbone", spec, "generation.backbone")
    key = content_hash(spec.as_json())
    return context.keep("backbone", key, lambda: method.load(context.device))


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 0..255 to float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes_range(pixels: Tensor) -> Tensor:
    """[-1, 1] to uint8 0..255, rounded."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _programs(shard: GenerateShard, backbone: Backbone) -> Iterator[tuple[int, Program[Tensor]]]:
    """One program a request, made when the engine asks for it; sources are encoded in batches."""
    renderer, reader = Renderer(backbone), ShardReader(shard.real_folder)
    channels, height, _ = backbone.pixel_shape
    form = PixelFormat(channels=1 if channels == 1 else 3, image_size=height)
    for start in range(0, len(shard.requests), shard.batch_size):
        part = shard.requests[start : start + shard.batch_size]
        keys = sorted({request.source_key for request in part})
        pixels = torch.stack([read_pixels(reader, dict(shard.sources[k]), form) for k in keys])
        with torch.inference_mode():
            encoded = backbone.encode(to_unit_range(pixels).to(backbone.device))
        sources = dict(zip(keys, encoded, strict=True))
        conds = backbone.condition(
            [request.prompt for request in part], [request.class_name for request in part]
        )
        for row, (request, cond) in enumerate(zip(part, conds, strict=True), start):
            job = Job(request=request, source=sources[request.source_key], cond=cond)
            yield row, renderer.program(job)


def _record(shard: GenerateShard, finished: Finished[int, Tensor]) -> SampleRecord:
    request = shard.requests[finished.key]
    return SampleRecord(
        key=request.key,
        request=request,
        num_model_calls=finished.num_model_calls,
        status="failed" if finished.rejected else "ok",
        reason=finished.rejected.reason if finished.rejected else "",
    )


def _encode(images: Sequence[Tensor], backbone: Backbone, shard: GenerateShard) -> Iterator[bytes]:
    """Decodes samples in batches and encodes each image file."""
    form: Literal["png", "jpeg"] = "png" if shard.extension == "png" else "jpeg"
    for start in range(0, len(images), shard.batch_size):
        samples = torch.stack(list(images[start : start + shard.batch_size]))
        with torch.inference_mode():
            pixels = to_bytes_range(backbone.decode(samples.to(backbone.device))).cpu()
        for image in pixels:
            yield encode_image(image.permute(1, 2, 0).numpy(), form, shard.jpeg_quality)


def _member(request: GenerationRequest, image: bytes, shard: GenerateShard) -> ShardMember:
    return ShardMember(
        key=request.key,
        image=image,
        extension=shard.extension,
        label=request.label,
        info={
            "key": request.key,
            "source_key": request.source_key,
            "class_name": request.class_name,
            "prompt": request.prompt,
            "image_guidance": request.image_guidance,
            "seed": request.seed,
            "backbone": request.backbone,
        },
    )


def _cost_path(shard: GenerateShard) -> Path:
    return shard.folder / f"{shard.name}.cost.json"


def _with_cost(shard: GenerateShard, ref: ShardRef) -> GeneratedShard:
    return GeneratedShard(ref=ref, **read_json(_cost_path(shard)))


def as_json(shard: GeneratedShard) -> dict[str, Any]:
    """Plain data for a task's result."""
    return asdict(shard)
