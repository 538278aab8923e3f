"""A plan in numbers, against what an output folder holds; nothing is generated."""

from dataclasses import replace
from pathlib import Path

import pytest

from generators.errors import ConfigError, DataError
from infra.jobs.dataset import select
from infra.jobs.planning import hard_images, needs_logits
from infra.jobs.preview import Preview, bytes_per_image, preview, unread_dataset
from infra.storage.runs import RunStore
from tests.infra.jobs.world import (
    World,
    config_for,
    contents,
    generate,
    generate_shard,
    prepare,
    run,
)


def numbers(world: World, *changes: str, folder: Path, store: bool = True) -> Preview:
    config = config_for(folder, *changes)
    return preview(config, [world.store if store else None], world.facts, num_workers=2)


@pytest.fixture
def generated(world: World) -> World:
    """A world with all its images."""
    generate(world)
    return world


def test_without_an_output_everything_is_new(world: World, image_folder: Path) -> None:
    found = numbers(
        replace(world, facts=replace(world.facts, seconds_per_call=0.5)),
        folder=image_folder,
        store=False,
    )
    assert found.images == {"new": 18, "reused": 0, "copied": 0, "stale": 0}
    assert [found.counts[level].tolist() for level in (0, 50, 100)] == [[0, 6, 0]] * 3
    assert found.class_counts.tolist() == [9, 3, 7]
    assert found.class_names == ("across", "rare", "upright")
    # 6 images of 4, 2 and 0 steps, guided: two evaluations a step.
    assert found.model_calls == 6 * (4 + 2 + 0) * 2
    assert found.seconds == found.model_calls * 0.5 / 2
    assert found.num_bytes == 18 * bytes_per_image(world.config.data, world.config.shards)
    assert found.notes == ()


def test_bytes_are_of_the_right_size(made: World) -> None:
    tars = sum(path.stat().st_size for path in made.store.generated.glob("*.tar"))
    expected = 18 * bytes_per_image(made.config.data, made.config.shards)
    assert expected / 2 < tars < expected * 4  # tiny tars are mostly padding


def test_what_is_there_is_reused(generated: World, image_folder: Path) -> None:
    found = numbers(generated, folder=image_folder)
    assert found.images == {"new": 0, "reused": 18, "copied": 0, "stale": 0}
    assert (found.model_calls, found.num_bytes, found.seconds) == (0, 0, 0.0)


def test_an_interrupted_generation_counts_what_is_missing(world: World, image_folder: Path) -> None:
    done = [shard for shard in world.shards if shard.requests[0].image_guidance == 50]
    for shard in done:
        run(generate_shard, shard)
    found = numbers(world, folder=image_folder)
    assert found.images == {"new": 12, "reused": 6, "copied": 0, "stale": 0}
    assert found.model_calls == 6 * 4 * 2  # of level 0 alone: level 100 costs none


def test_a_further_level_reuses_the_others(generated: World, image_folder: Path) -> None:
    found = numbers(
        generated, "generation.levels=[0, 25, 50, 100]", "training.epochs=5", folder=image_folder
    )
    assert found.images == {"new": 6, "reused": 18, "copied": 0, "stale": 0}
    assert found.model_calls == 6 * 3 * 2


def test_levels_that_no_arm_reads_are_not_made(world: World, image_folder: Path) -> None:
    steps = (
        "generation.levels=[0, 10, 20, 30, 40, 50, 60, 70, 80, 90]",
        "generation.num_inference_steps=10",
    )
    arms = (
        "curriculum.schedule={name: fixed_stages, levels: [30, 60], order: descending}",
        "compare={one: {schedule: {name: single, level: 90}}}",
    )
    config = config_for(image_folder, *steps, *arms)
    found = preview(config, [None], world.facts, num_workers=2)
    assert list(found.counts) == [60, 30, 90]  # in the order of use, the curriculum first
    assert found.unread == dict.fromkeys((0, 10, 20, 40, 50, 70, 80), 6)
    assert found.unread_calls == 6 * (10 + 9 + 8 + 6 + 5 + 3 + 2) * 2
    assert found.model_calls == 6 * (4 + 7 + 1) * 2
    assert found.images["new"] == 18


def test_a_run_whose_arms_read_no_level_is_refused(world: World, image_folder: Path) -> None:
    config = config_for(image_folder, "curriculum.schedule=none")
    with pytest.raises(
        ConfigError, match=r"curriculum\.schedule: .* reads one of .*\[0, 50, 100\]"
    ):
        preview(config, [None], world.facts, num_workers=2)


def test_images_that_are_not_asked_for_any_more_are_stale(
    generated: World, image_folder: Path
) -> None:
    fewer = numbers(generated, "generation.levels=[50]", folder=image_folder)
    assert fewer.images == {"new": 0, "reused": 6, "copied": 0, "stale": 12}
    other = numbers(generated, "generation.guidance.guidance_scale=3", folder=image_folder)
    assert other.images == {"new": 18, "reused": 0, "copied": 0, "stale": 18}


def test_thresholds_choose_and_change_no_image(generated: World, image_folder: Path) -> None:
    found = numbers(generated, "data.many_above=9", folder=image_folder)
    assert found.images["reused"] == 18
    assert found.shots.tolist() == ["medium", "few", "medium"]


def test_an_output_with_other_real_images_does_not_lend_its_counts(
    generated: World, image_folder: Path
) -> None:
    found = numbers(generated, "data.test_percent=50", folder=image_folder)
    assert found.class_counts.tolist() == [6, 2, 5]
    assert found.images == {"new": 18, "reused": 0, "copied": 0, "stale": 18}
    assert "other real images" in found.notes[0]


def test_planning_writes_nothing(generated: World, image_folder: Path) -> None:
    before = contents(generated.store.root)
    numbers(generated, "generation.levels=[25]", folder=image_folder)
    assert contents(generated.store.root) == before


def test_a_hard_set_that_needs_a_classifier_is_noted(world: World, image_folder: Path) -> None:
    found = numbers(world, "hard_set=low_confidence", folder=image_folder, store=False)
    assert found.counts[50].tolist() == [6, 6, 6]
    assert "known only after a classifier is trained" in found.notes[0]


def test_the_unread_data_set_is_the_read_one_but_for_what_cannot_be_read(world: World) -> None:
    unread = unread_dataset(world.config, select(world.config.data))
    assert unread.class_names == world.dataset.class_names
    assert unread.class_counts().tolist() == world.dataset.class_counts().tolist()
    keys = set(unread.split("train").column("key").to_pylist())
    assert keys == set(world.dataset.split("train").column("key").to_pylist())


def test_hard_images_are_those_of_small_classes(world: World) -> None:
    assert not needs_logits(world.config)
    hard = hard_images(world.config, world.dataset, None)
    assert hard.class_names() == ["rare"]
    assert len(hard.keys()) == 3


def test_an_empty_hard_set_says_what_was_asked(world: World, image_folder: Path) -> None:
    config = config_for(image_folder, "hard_set.threshold=2")
    with pytest.raises(DataError, match=r"selects none of 19 training images \(smallest class: 3"):
        hard_images(config, world.dataset, None)


def test_the_place_of_the_output_does_not_change_the_plan(
    world: World, image_folder: Path, tmp_path: Path
) -> None:
    again = prepare(image_folder, tmp_path / "elsewhere")
    assert [shard.name for shard in again.shards] == [shard.name for shard in world.shards]
    assert again.store != RunStore(world.store.root)
