"""Many shards in one job: one engine, the same bytes, and nothing finished is lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from generators.errors import OutputError
from infra.jobs.generate import generate_shards
from infra.jobs.images import PixelFormat, read_pixels
from infra.jobs.shard_work import GenerateShard, finished_shard
from infra.storage.shards import ShardReader, read_rows
from infra.workers.base import Progress
from tests.infra.jobs.world import World, contents, context, run


def moved(world: World, folder: Path, **changes: object) -> tuple[GenerateShard, ...]:
    return tuple(replace(shard, folder=folder, **changes) for shard in world.shards)  # type: ignore[arg-type]


def shard_files(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if "cost" not in name}


def test_together_backwards_and_alone_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    together = moved(world, tmp_path / "together")
    backwards = moved(world, tmp_path / "backwards")[::-1]
    alone = moved(world, tmp_path / "alone")

    run(generate_shards, together)
    run(generate_shards, backwards)
    for shard in alone:
        run(generate_shards, (shard,))

    assert len(shard_files(tmp_path / "together")) == 2 * len(world.shards)
    assert shard_files(tmp_path / "together") == shard_files(tmp_path / "backwards")
    assert shard_files(tmp_path / "together") == shard_files(tmp_path / "alone")


def test_batches_are_filled_across_shards(world: World, tmp_path: Path) -> None:
    """Shards of 1 to 4 requests alone would leave half of every batch of 8 empty."""
    shards = moved(world, tmp_path, batch_size=8)
    costs = [made.cost for made in run(generate_shards, shards)]

    alone = [run(generate_shards, (replace(s, folder=tmp_path / "alone"),))[0] for s in shards]
    calls = sum(cost.num_model_calls for cost in costs)
    assert calls == sum(made.cost.num_model_calls for made in alone) == 6 * 2 * (4 + 2)
    assert sum(cost.capacity for cost in costs) < sum(made.cost.capacity for made in alone)
    assert all(cost.batch_size == 8 for cost in costs)


def test_without_determinism_pixels_differ_by_rounding_at_most(
    world: World, tmp_path: Path
) -> None:
    exact = moved(world, tmp_path / "exact")
    free = moved(world, tmp_path / "free", deterministic=False, batch_size=7)
    run(generate_shards, exact)
    run(generate_shards, free)
    form = PixelFormat(channels=1, image_size=8)
    readers = [ShardReader(tmp_path / name) for name in ("exact", "free")]
    for shard in exact:
        rows = [read_rows(tmp_path / name, shard.name).to_pylist() for name in ("exact", "free")]
        for first, second in zip(*rows, strict=True):
            assert first["key"] == second["key"]
            pixels = [
                read_pixels(reader, row, form).numpy().astype(int)
                for reader, row in zip(readers, (first, second), strict=True)
            ]
            assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_a_stopped_job_keeps_its_finished_shards(world: World, tmp_path: Path) -> None:
    shards = moved(world, tmp_path)
    whole = moved(world, tmp_path / "whole")
    run(generate_shards, whole)

    job = generate_shards(context(), shards)
    while not any(finished_shard(shard) for shard in shards):
        next(job)
    job.close()

    kept = [shard for shard in shards if finished_shard(shard)]
    assert 0 < len(kept) < len(shards)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    run(generate_shards, shards)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    ours = {name: data for name, data in shard_files(tmp_path).items() if "/" not in name}
    assert ours == shard_files(tmp_path / "whole")


def test_a_shard_that_cannot_be_written_does_not_take_the_others_along(
    world: World, tmp_path: Path
) -> None:
    shards = moved(world, tmp_path)
    broken = shards[1].name
    (tmp_path / f"{broken}.tar").mkdir(parents=True)  # where the file must go there is a folder
    with pytest.raises(OutputError, match=broken):
        run(generate_shards, shards)
    assert finished_shard(shards[0])
    assert not finished_shard(shards[1])


def test_progress_says_how_fast_it_goes(world: World, tmp_path: Path) -> None:
    seen: list[Progress] = list(generate_shards(context(), moved(world, tmp_path)))
    assert seen[-1].done == seen[-1].total == 18
    assert [item.done for item in seen] == [8, 16, 18, 18]
    gauge = next(item.gauge for item in reversed(seen) if item.gauge)
    assert gauge["evaluations"] == 6 * 2 * (4 + 2)
    assert gauge["capacity"] == 4 * gauge["batches"] >= gauge["evaluations"]
    assert gauge["queued"] >= gauge["evaluations"]
    assert 0 < gauge["bare_seconds"] < 3 * gauge["seconds"]
    assert {"network_seconds", "decode_seconds", "encode_seconds", "sources_seconds"} <= set(gauge)


def test_workers_among_many_say_less(world: World, tmp_path: Path) -> None:
    shards = moved(world, tmp_path)
    quiet = tuple(replace(shard, progress_seconds=3600.0) for shard in shards)
    assert [item.done for item in generate_shards(context(), quiet)] == [8, 18, 18]
