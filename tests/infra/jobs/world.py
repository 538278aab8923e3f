"""A small world for jobs: three classes of 8x8 images in folders, and their exact generator."""

import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.config.load import override, validate
from infra.jobs.dataset import Dataset, ingest_shards, open_dataset, select
from infra.jobs.generate import generate_shards
from infra.jobs.ingest import ingest_shard
from infra.jobs.inspect import BackboneFacts, inspect_backbone
from infra.jobs.levels import PlannedLevel, commit_levels, settle_level
from infra.jobs.planning import hard_images, plan_generation
from infra.jobs.shard_work import GeneratedShard, GenerateShard
from infra.storage.manifest import commit_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import read_rows
from infra.workers.base import Job, Progress, WorkerContext
from infra.workers.local import LocalWorker

T = TypeVar("T")

UP_DOWN = np.repeat([[0.8], [-0.8]], 4, axis=0) * np.ones((8, 8))
PATTERNS = {"across": UP_DOWN.T, "rare": np.eye(8) * 1.6 - 0.8, "upright": UP_DOWN}
COUNTS = {"across": 12, "rare": 4, "upright": 10}
BACKBONE = {
    "name": "toy",
    "means": {name: [pattern.ravel().tolist()] for name, pattern in PATTERNS.items()},
    "shape": [1, 8, 8],
}


def context() -> WorkerContext:
    """A worker that has just started."""
    return WorkerContext(device="cpu", threads=1)


def run(job: Job[T], *args: Any, worker: WorkerContext | None = None) -> T:
    """Runs a job in this process; its last progress must be its end."""
    seen: list[Progress] = []
    value = LocalWorker(worker or context()).run(job, *args, on_progress=seen.append)
    assert seen
    assert seen[-1].done == seen[-1].total
    assert [item.done for item in seen] == sorted(item.done for item in seen)
    return value


def write_images(root: Path, counts: dict[str, int] = COUNTS, seed: int = 0) -> None:
    """Grayscale PNG files in class folders: the class's pattern with a little noise."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise = np.random.default_rng([seed, index]).normal(0, 0.1, (8, 8))
            pixels = np.clip((PATTERNS[name] + noise + 1) * 127.5, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03d}.png")


def png(shape: tuple[int, int] = (8, 8)) -> bytes:
    """A valid file."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(stream, "png")
    return stream.getvalue()


def config_for(folder: Path, *changes: str) -> RunConfig:
    """A run on class folders with the exact generator and quick trainings."""
    base = {
        "name": "tiny",
        "data": {
            "source": {"name": "folder", "path": str(folder)},
            "channels": 1,
            "image_size": 8,
            "test_percent": 25,
            "many_above": 8,
            "few_below": 5,
        },
        "hard_set": {"name": "few_shot", "threshold": 5},
        "generation": {
            "backbone": BACKBONE,
            "levels": [0, 50, 100],
            "target": {"per_class": 6},
            "num_inference_steps": 4,
            "batch_size": 4,
        },
        "filter": {"judges": ["classifier"]},
        "shards": {"images_per_shard": 4},
        "training": {
            "model": "small_cnn",
            "epochs": 4,
            "updates_per_epoch": 3,
            "batch_size": 8,
            "learning_rate": 0.01,
            "augment": {"degrees": 10},
            "seeds": 2,
        },
        "curriculum": {"schedule": "fixed_stages"},
    }
    return validate(RunConfig, override(base, changes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """An ingested data set with a plan."""

    config: RunConfig
    store: RunStore
    dataset: Dataset
    facts: BackboneFacts
    shards: tuple[GenerateShard, ...]

    def levels(self) -> list[PlannedLevel]:
        """The levels of the plan, without judges."""
        names: dict[int, list[str]] = {}
        for shard in self.shards:
            names.setdefault(shard.requests[0].image_guidance, []).append(shard.name)
        return [
            PlannedLevel(image_guidance=level, shards=tuple(found), judges=(), classifier_hash="")
            for level, found in names.items()
        ]


def ingest(config: RunConfig, store: RunStore) -> Dataset:
    """Ingests everything, as the flow does."""
    parts = ingest_shards(config.data, config.shards, select(config.data), store)
    names = [run(ingest_shard, part).name for part in parts]
    tables = [read_rows(store.real, name) for name in names]
    commit_manifest(store.real_manifest, tables, order=("split", "label", "key"))
    return open_dataset(config.data, store.real_manifest)


def prepare(folder: Path, output: Path, *changes: str) -> World:
    """Ingests and plans."""
    config, store = config_for(folder, *changes), RunStore(output)
    store.claim(config.identity(), update=False)
    dataset = ingest(config, store)
    backbone = config.generation.backbone
    assert backbone is not None
    facts = run(inspect_backbone, backbone, config, False)
    hard = hard_images(config, dataset, None)
    plan = plan_generation(config, dataset, hard, facts.fingerprint)
    shards = tuple(
        GenerateShard(
            name=name,
            requests=requests,
            backbone=backbone,
            batch_size=facts.batch_size,
            deterministic=config.generation.deterministic,
            folder=store.generated,
            real_folder=store.real,
            sources=dataset.locations(),
            extension=config.shards.extension(config.data.image_size),
            jpeg_quality=config.shards.jpeg_quality,
            class_names=dataset.class_names,
            prompt=config.generation.prompt,
        )
        for name, requests in plan.shards(config.shards.images_per_shard)
    )
    return World(config=config, store=store, dataset=dataset, facts=facts, shards=shards)


def generate_shard(
    context: WorkerContext, shard: GenerateShard
) -> Generator[Progress, None, GeneratedShard]:
    """One shard alone."""
    (made,) = yield from generate_shards(context, (shard,))
    return made


def generate(world: World) -> None:
    """Makes all shards and commits the manifest, with nothing refused."""
    for shard in world.shards:
        run(generate_shard, shard)
    for level in world.levels():
        settle_level(level, world.store)
    commit_levels(world.levels(), world.store)


def method(name: str, **params: Any) -> MethodSpec:
    """A spec."""
    return MethodSpec(name=name, params=params)


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
