"""A new shard is made of copies and of new images, and has the bytes it would have without them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curriculum.data.decode import encode_image
from curriculum.plan import GenerationPlan
from generators.records import GenerationRequest, SampleRecord
from infra.config import RunConfig
from infra.jobs.dataset import open_dataset
from infra.jobs.members import shard_member
from infra.jobs.planning import hard_images, plan_generation, stored_form
from infra.jobs.preview import preview
from infra.jobs.reuse import Copies, StoredForm, find_copies, reused_members
from infra.jobs.shard_work import GenerateShard
from infra.storage.manifest import record_rows
from infra.storage.runs import RunStore
from infra.storage.shards import ShardMember, read_ref, write_shard
from tests.infra.jobs.world import (
    World,
    config_for,
    contents,
    generate,
    generate_shard,
    prepare,
    run,
)


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A plan that shares images with the shards of a world, and what can be copied."""

    world: World
    config: RunConfig
    plan: GenerationPlan
    copies: Copies

    def shards(self, folder: Path, *, copy: bool) -> list[GenerateShard]:
        """The plan's shards, to be written to a folder."""
        return [
            replace(
                self.world.shards[0],
                name=name,
                requests=tuple(self.plan.request(int(row)) for row in rows),
                folder=folder,
                reused=self.copies.among(rows) if copy else {},
            )
            for name, rows in self.plan.shard_rows(4)
        ]


def missing_rows(plan: GenerationPlan, folder: Path) -> NDArray[np.int64]:
    missing = [rows for name, rows in plan.shard_rows(4) if read_ref(folder, name) is None]
    return np.concatenate([np.empty(0, dtype=np.int64), *missing])


def grow(world: World, images: Path, *changes: str, folders: list[Path] | None = None) -> Grown:
    config = config_for(images, *changes)
    dataset = open_dataset(config.data, world.store.real_manifest)
    hard = hard_images(config, dataset, None)
    plan = plan_generation(config, dataset, hard, world.facts.fingerprint)
    planned = {name for name, _ in plan.shard_rows(4)}
    folder = world.store.generated
    missing = missing_rows(plan, folder)
    copies = find_copies(plan, missing, folders or [folder], planned, stored_form(config))
    return Grown(world=world, config=config, plan=plan, copies=copies)


@pytest.mark.parametrize(
    ("changes", "num_planned", "num_copied"),
    [
        # 6 images a level are 4 + 2; the first shard stays, the second grows by two images.
        (["generation.target={per_class: 8}"], 24, 3 * 2),
        # 'across' comes before 'rare': no shard stays, all of its images do.
        (["hard_set.threshold=10", "generation.target={per_class: 6}"], 54, 18),
        (["generation.levels=[0, 25, 50, 100]", "training.epochs=5"], 24, 0),
    ],
)
def test_a_grown_plan_makes_only_what_is_new_and_the_same_bytes(
    made: World,
    image_folder: Path,
    tmp_path: Path,
    changes: list[str],
    num_planned: int,
    num_copied: int,
) -> None:
    grown = grow(made, image_folder, *changes)
    assert (len(grown.plan), len(grown.copies)) == (num_planned, num_copied)
    calls = {}
    for name, copy in (("copied", True), ("alone", False)):
        done = [run(generate_shard, shard) for shard in grown.shards(tmp_path / name, copy=copy)]
        calls[name] = sum(shard.cost.num_model_calls for shard in done)
    ours, others = contents(tmp_path / "copied"), contents(tmp_path / "alone")
    assert ours.keys() == others.keys()
    assert all(
        data == others[path] for path, data in ours.items() if not path.endswith(".cost.json")
    )
    copied = grown.plan.level[grown.copies.rows].tolist()
    saved = sum(4 * (100 - level) // 100 * 2 for level in copied)  # steps, guided
    assert calls["copied"] == calls["alone"] - saved


def test_the_preview_counts_copies(made: World, image_folder: Path) -> None:
    config = config_for(image_folder, "hard_set.threshold=10")
    found = preview(config, [made.store], made.facts, num_workers=1)
    assert found.images == {"new": 36, "reused": 0, "copied": 18, "stale": 18}
    assert found.model_calls == 12 * (4 + 2 + 0) * 2


def test_another_run_lends_whole_shards_and_single_images(
    made: World, image_folder: Path, tmp_path: Path
) -> None:
    other = prepare(image_folder, tmp_path / "other", "generation.target={per_class: 8}")
    folders = [other.store.generated, made.store.generated]
    grown = grow(other, image_folder, "generation.target={per_class: 8}", folders=folders)
    assert len(grown.copies) == 18
    stores = [other.store, made.store]
    found = preview(grown.config, stores, made.facts, num_workers=1)
    assert found.images == {"new": 6, "reused": 0, "copied": 18, "stale": 0}
    for shard in grown.shards(tmp_path / "alone", copy=False):
        run(generate_shard, shard)
    for shard in grown.shards(other.store.generated, copy=True):
        run(generate_shard, shard)
    ours, others = contents(other.store.generated), contents(tmp_path / "alone")
    assert {k: v for k, v in ours.items() if "cost" not in k} == {
        k: v for k, v in others.items() if "cost" not in k
    }


def test_a_new_output_is_previewed_with_the_real_images_of_a_run_that_lends(
    made: World, image_folder: Path, tmp_path: Path
) -> None:
    config = config_for(image_folder)
    stores = [RunStore(tmp_path / "new"), made.store]
    found = preview(config, stores, made.facts, num_workers=1)
    assert found.images == {"new": 0, "reused": 0, "copied": 18, "stale": 0}
    found = preview(config, [None, made.store], made.facts, num_workers=1)
    assert found.images == {"new": 0, "reused": 0, "copied": 18, "stale": 0}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["cut the tar", "remove the tar", "cut the twin"])
def test_a_damaged_shard_lends_nothing(world: World, image_folder: Path, damage: str) -> None:
    generate(world)
    before = len(grow(world, image_folder, "hard_set.threshold=10").copies)
    victim = next(s for s in world.shards if s.requests[0].image_guidance == 50)
    path = world.store.generated / f"{victim.name}.{'parquet' if 'twin' in damage else 'tar'}"
    if "remove" in damage:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    after = len(grow(world, image_folder, "hard_set.threshold=10").copies)
    assert (before, after) == (18, 18 - len(victim.requests))


def test_other_settings_share_no_image(made: World, image_folder: Path) -> None:
    for change in ("generation.guidance.guidance_scale=3", "generation.seed=7"):
        assert len(grow(made, image_folder, change).copies) == 0


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("{image_format: jpeg, jpeg_quality: 95}", 18),
        ("{image_format: jpeg, jpeg_quality: 80}", 0),
        ("{image_format: png}", 0),
    ],
)
def test_images_are_copied_only_as_they_would_be_stored(
    image_folder: Path, tmp_path: Path, change: str, count: int
) -> None:
    world = prepare(image_folder, tmp_path / "run", "shards.image_format=jpeg")
    generate(world)
    changes = (f"shards={change[:-1]}, images_per_shard: 4}}", "hard_set.threshold=10")
    assert len(grow(world, image_folder, *changes).copies) == count


def test_failures_are_copied_too(
    make_request: Callable[..., GenerationRequest], tmp_path: Path
) -> None:
    requests = [make_request(seed=seed) for seed in range(3)]
    records = [SampleRecord(key=r.key, request=r, num_model_calls=7, status="ok") for r in requests]
    records[1] = replace(records[1], status="failed", reason="not_finite")
    members = [member(request) for request in (requests[0], requests[2])]
    write_shard(tmp_path, "g000-old", members, record_rows(records))
    copies = find_copies(
        Requests(requests),  # type: ignore[arg-type]
        np.arange(3),
        [tmp_path],
        set(),
        StoredForm(extension="png", jpeg_quality=95),
    )
    reused = copies.among(np.arange(3))
    wanted = [requests[2], requests[1]]
    assert reused_members(wanted, reused) == ([members[1]], [records[2], records[1]])
    assert copies.among(np.array([1])).keys() == {requests[1].key}
    assert copies.among(np.array([5])) == {}


class Requests:
    """The part of a plan that the index looks at."""

    def __init__(self, requests: list[GenerationRequest]) -> None:
        self.requests, self.level = requests, np.zeros(len(requests), dtype=np.int16)

    def levels(self) -> tuple[int, ...]:
        return (0,)

    def keys(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.requests[row].key for row in rows.tolist()]


def member(request: GenerationRequest) -> ShardMember:
    pixels = np.full((8, 8, 1), request.seed, np.uint8)
    return shard_member(request, encode_image(pixels, "png", 95), "png")
