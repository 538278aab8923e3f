"""A shard of synthetic images: once, whole, and the same every time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from generators.errors import ConfigError
from infra.jobs.finishing import to_bytes_range, to_unit_range
from infra.jobs.images import PixelFormat, read_pixels
from infra.jobs.inspect import inspect_backbone
from infra.jobs.shard_work import GeneratedShard, GenerateShard
from infra.storage.shards import ShardReader, read_rows
from infra.workers.base import WorkerContext
from tests.infra.jobs.world import PATTERNS, World, contents, context, generate_shard, method, run

FORM = PixelFormat(channels=1, image_size=8)


def shard_of(world: World, level: int) -> GenerateShard:
    return next(s for s in world.shards if s.requests[0].image_guidance == level)


def pixels_of(world: World, shard: GenerateShard) -> dict[str, Any]:
    reader = ShardReader(world.store.generated)
    rows = read_rows(world.store.generated, shard.name).to_pylist()
    return {row["key"]: read_pixels(reader, row, FORM)[0].numpy().astype(int) for row in rows}


def test_a_shard_has_an_image_and_a_row_for_every_request(world: World) -> None:
    shard = shard_of(world, 50)
    made = run(generate_shard, shard)
    assert made.ref.num_rows == made.ref.num_samples == len(shard.requests) == 4
    assert made.cost.num_model_calls == 4 * 2 * 2  # 4 images, half of 4 steps, guided
    rows = {row["key"]: row for row in read_rows(shard.folder, shard.name).to_pylist()}
    assert set(rows) == {request.key for request in shard.requests}
    for request in shard.requests:
        row = rows[request.key]
        assert (row["status"], row["reason"], row["num_model_calls"]) == ("ok", "", 4)
        assert (row["image_guidance"], row["seed"]) == (50, request.seed)
        assert row["class_name"] == "rare"


def test_images_show_their_class(world: World) -> None:
    """The generator is exact: free generation ends near the class's only mean."""
    shard = shard_of(world, 0)
    run(generate_shard, shard)
    for pixels in pixels_of(world, shard).values():
        distance = {
            name: float(np.abs(pixels / 127.5 - 1 - pattern).mean())
            for name, pattern in PATTERNS.items()
        }
        assert min(distance, key=lambda name: distance[name]) == "rare"


def test_doing_it_again_gives_the_same_bytes_without_work(world: World) -> None:
    shard = shard_of(world, 50)
    first = run(generate_shard, shard)
    before = {path: path.stat().st_mtime_ns for path in shard.folder.iterdir()}
    worker = context()
    again = run(generate_shard, shard, worker=worker)
    assert again == first  # what it cost is remembered, too
    assert worker.models == {}  # no network was loaded
    assert {path: path.stat().st_mtime_ns for path in shard.folder.iterdir()} == before


def test_another_folder_gets_the_same_bytes(world: World, tmp_path: Path) -> None:
    for shard in world.shards:
        run(generate_shard, shard)
        run(generate_shard, replace(shard, folder=tmp_path / "other"))
    ours, others = contents(world.store.generated), contents(tmp_path / "other")
    kept = {name for name in ours if not name.endswith(".cost.json")}
    assert len(kept) == 2 * len(world.shards)
    assert {name: ours[name] for name in kept} == {name: others[name] for name in kept}


def test_a_shard_without_its_twin_is_made_again(world: World) -> None:
    shard = shard_of(world, 50)
    run(generate_shard, shard)
    before = contents(shard.folder)
    (shard.folder / f"{shard.name}.parquet").unlink()
    (shard.folder / f"{shard.name}.tar").write_bytes(b"half of i")
    run(generate_shard, shard)
    after = contents(shard.folder)
    assert {n: b for n, b in after.items() if "cost" not in n} == {
        n: b for n, b in before.items() if "cost" not in n
    }


def test_level_100_is_the_source_itself_without_a_model_call(world: World) -> None:
    shard = shard_of(world, 100)
    made = run(generate_shard, shard)
    assert made.cost.num_model_calls == 0
    rows = read_rows(shard.folder, shard.name).to_pylist()
    assert {row["num_model_calls"] for row in rows} == {0}
    reader, locations = ShardReader(world.store.real), world.dataset.locations()
    for row in rows:
        source = read_pixels(reader, locations[row["source_key"]], FORM)[0].numpy()
        assert np.array_equal(pixels_of(world, shard)[row["key"]], source)


def test_packing_changes_no_pixel_by_more_than_rounding(world: World, tmp_path: Path) -> None:
    shard = shard_of(world, 50)
    run(generate_shard, shard)
    packed = pixels_of(world, shard)
    alone = replace(shard, batch_size=1, folder=tmp_path / "alone")
    run(generate_shard, alone)
    reader = ShardReader(alone.folder)
    for row in read_rows(alone.folder, alone.name).to_pylist():
        difference = packed[row["key"]] - read_pixels(reader, row, FORM)[0].numpy()
        assert np.abs(difference).max() <= 1


def test_a_network_other_than_the_plan_s_is_refused(world: World) -> None:
    shard = replace(
        shard_of(world, 50), backbone=method("toy", **{**world_params(world), "variance": 0.5})
    )
    with pytest.raises(ConfigError, match="the network the plan was made for"):
        run(generate_shard, shard)
    assert contents(shard.folder) == {}


def test_a_request_that_fails_is_a_row_and_the_others_are_made(world: World) -> None:
    params = world_params(world)
    means = {**params["means"], "across": [[1e200] * 64]}  # its exact score overflows
    backbone = method("toy", **{**params, "means": means})
    facts = run(inspect_backbone, backbone, world.config, False)
    shard = shard_of(world, 0)
    requests = [replace(request, backbone=facts.fingerprint) for request in shard.requests]
    requests[1] = replace(requests[1], class_name="across")
    mixed = replace(shard, backbone=backbone, requests=tuple(requests))
    made = run(generate_shard, mixed)
    assert (made.ref.num_rows, made.ref.num_samples) == (4, 3)
    rows = {row["key"]: row for row in read_rows(mixed.folder, mixed.name).to_pylist()}
    failed = rows[requests[1].key]
    assert (failed["status"], failed["reason"], failed["member"]) == ("failed", "not_finite", "")
    assert failed["num_model_calls"] == 8
    assert sum(row["status"] == "ok" for row in rows.values()) == 3


def test_the_worker_keeps_its_network_between_shards(world: World) -> None:
    worker: WorkerContext = context()
    run(generate_shard, world.shards[0], worker=worker)
    loaded = worker.models["backbone"][1]
    run(generate_shard, world.shards[1], worker=worker)
    assert worker.models["backbone"][1] is loaded


def test_costs_are_plausible(world: World) -> None:
    made: GeneratedShard = run(generate_shard, shard_of(world, 0))
    cost = made.cost
    assert 0 < cost.stages["network"] < cost.seconds
    assert cost.num_model_calls == cost.capacity  # 4 requests of 2 rows a step, 4 rows a batch


def test_images_in_the_manifest_can_be_found_in_the_shards(made: World) -> None:
    rows = pq.read_table(made.store.manifest).to_pylist()
    assert len(rows) == 18  # 6 of one class at 3 levels
    reader = ShardReader(made.store.generated)
    for row in rows:
        assert read_pixels(reader, row, FORM).shape == (1, 8, 8)


def test_ranges_are_inverse_and_clamped() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes_range(to_unit_range(values)), values)
    assert to_bytes_range(torch.tensor([-3.0, -1.0, 0.0, 1.0, 7.0])).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def world_params(world: World) -> dict[str, Any]:
    assert world.config.generation.backbone is not None
    return dict(world.config.generation.backbone.params)
