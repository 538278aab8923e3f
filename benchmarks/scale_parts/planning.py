"""A plan of many requests, from the hard set to the groups of shards, as a run makes it."""

import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curriculum.plan import GenerationPlan, RequestTemplate, SourceImages, make_plan
from generators.registry import MethodSpec
from infra.jobs.reuse import StoredForm, find_copies
from infra.jobs.shard_work import GenerateShard
from infra.storage.shards import read_refs
from tasks.sizes import (
    MAX_INGESTING,
    MAX_JUDGING,
    in_groups,
    parts_per_task,
    shards_per_task,
)

LEVELS = (80, 60, 40, 20, 0)
CLASSES = 1000
SOURCES = 100_000
IMAGES_PER_SHARD = 1000
HANDED_OVER = 50


def a_plan(requests: int) -> GenerationPlan:
    """A plan of a thousand classes with a hundred hard images each, at five levels."""
    keys = [f"{number:016x}" for number in range(SOURCES)]
    labels = np.arange(SOURCES, dtype=np.int64) * CLASSES // SOURCES
    sources = SourceImages(keys=keys, sha256=[key * 4 for key in keys], labels=labels)
    template = RequestTemplate(
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        prompt="a photo of a {class_name}",
        num_inference_steps=50,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": 7.5}),
        sampler=MethodSpec(name="ddim"),
        backbone="f" * 64,
    )
    wanted = np.full(CLASSES, requests // CLASSES // len(LEVELS), dtype=np.int64)
    return make_plan(sources, LEVELS, wanted, template)


def plan_a_run(requests: int, num_workers: int) -> dict[str, Any]:
    """Plans, names shards, looks for finished ones, and groups them for tasks."""
    started = time.perf_counter()
    plan = a_plan(requests)
    planned = time.perf_counter()
    shards = dict(plan.shard_rows(IMAGES_PER_SHARD))
    named = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        there = read_refs(Path(folder), shards)
        form = StoredForm(extension="jpg", jpeg_quality=95)
        copies = find_copies(
            plan, np.concatenate(list(shards.values())), [Path(folder)], shards.keys(), form
        )
    assert not there
    assert len(copies) == 0
    looked = time.perf_counter()
    return {
        "requests": len(plan),
        "shards": len(shards),
        "plan_seconds": planned - started,
        "name_seconds": named - planned,
        "look_seconds": looked - named,
        "hand_over_seconds": hand_over(plan, list(shards.items())[:HANDED_OVER]),
        **count_tasks(plan, list(shards), num_workers),
    }


def hand_over(plan: GenerationPlan, shards: Sequence[tuple[str, NDArray[np.int64]]]) -> float:
    """Seconds of the driver to make a shard's requests and to write them down for Ray."""
    started = time.process_time()
    for name, rows in shards:
        requests = tuple(plan.request(row) for row in rows.tolist())
        place = {"shard": name, "offset": 0, "size": 0, "sha256": requests[0].source_sha256}
        shard = GenerateShard(
            name=name,
            requests=requests,
            backbone=MethodSpec(name="toy"),
            batch_size=1,
            deterministic=False,
            folder=Path(name),
            real_folder=Path(name),
            sources={request.source_key: place for request in requests},
            extension="jpg",
            jpeg_quality=95,
        )
        assert pickle.dumps(shard, protocol=5)
    return (time.process_time() - started) / len(shards)


def count_tasks(plan: GenerationPlan, names: list[str], num_workers: int) -> dict[str, int]:
    """Prefect tasks of a run with one judge over that plan, by kind."""
    groups: list[int] = []
    for level in plan.levels():
        own = [name for name in names if name.startswith(f"g{level:03d}-")]
        size = shards_per_task(len(own), len(names), num_workers)
        groups.append(len(in_groups(own, size)))
    together = parts_per_task(sum(groups), MAX_JUDGING)
    judging = sum(-(-count // together) for count in groups)
    real = -(-SOURCES // IMAGES_PER_SHARD)
    ingesting = -(-real // parts_per_task(real, MAX_INGESTING))
    others = len(groups) + 1  # settling each level, the manifest
    return {
        "generating_tasks": sum(groups),
        "judging_tasks": judging,
        "ingesting_tasks": ingesting,
        "tasks": sum(groups) + judging + ingesting + others,
    }
