"""Plans: how many of what, which shard, and at what cost."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from curriculum.plan import (
    GenerationPlan,
    RequestTemplate,
    SourceImages,
    check_levels,
    make_plan,
)
from curriculum.target import GenerationTarget
from generators.errors import ConfigError, DataError
from generators.records import ImageInputs, num_denoising_steps
from generators.registry import MethodSpec

TEMPLATE = RequestTemplate(
    class_names=("hare", "lynx", "wolf"),
    prompt="a photo of a {class_name}",
    num_inference_steps=50,
    guidance=MethodSpec(name="cfg", params={"guidance_scale": 2.0}),
    sampler=MethodSpec(name="ddim"),
    backbone="f" * 8,
)
SOURCES = SourceImages(
    keys=("h0", "l0", "l1", "l2", "w0", "w1"),
    sha256=tuple(letter * 64 for letter in "abcdef"),
    labels=np.array([0, 1, 1, 1, 2, 2]),
)


def plan(
    levels: Sequence[int] = (0, 50, 90),
    wanted: Sequence[int] = (0, 7, 4),
    template: RequestTemplate = TEMPLATE,
    sources: SourceImages = SOURCES,
) -> GenerationPlan:
    return make_plan(sources, levels, np.array(wanted), template)


COUNTS = np.array([120, 101, 40, 19, 3])
SHOTS = np.array(["many", "many", "medium", "few", "few"])
HARD = np.array([0, 0, 0, 19, 3])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # The mean of the many classes, (120 + 101) / 2 = 110.5, rounds to even.
        (GenerationTarget(match_many=True), [0, 0, 0, 110 - 19, 110 - 3]),
        (GenerationTarget(per_class=25), [0, 0, 0, 25, 25]),
        (GenerationTarget(factor=2.0), [0, 0, 0, 38, 6]),
        (GenerationTarget(factor=0.4), [0, 0, 0, 8, 1]),
    ],
)
def test_targets(target: GenerationTarget, expected: list[int]) -> None:
    assert target.wanted(COUNTS, HARD, SHOTS).tolist() == expected


def test_without_many_classes_the_largest_class_is_matched() -> None:
    wanted = GenerationTarget(match_many=True).wanted(
        np.array([40, 19, 3]), np.array([40, 19, 3]), np.array(["medium", "few", "few"])
    )
    assert wanted.tolist() == [0, 21, 37]


def test_a_class_with_more_images_than_the_target_gets_none() -> None:
    wanted = GenerationTarget(match_many=True).wanted(
        np.array([300, 101, 5]), np.array([300, 101, 5]), np.array(["many", "many", "few"])
    )
    assert wanted.tolist() == [0, 200 - 101, 200 - 5]


def test_a_target_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"nothing to generate.*generation\.target"):
        GenerationTarget(match_many=True).wanted(
            np.array([50, 50]), np.array([50, 50]), np.array(["medium", "medium"])
        )


def test_every_level_has_the_wanted_images_of_every_class() -> None:
    counts = plan().counts()
    assert {level: found.tolist() for level, found in counts.items()} == {
        0: [0, 7, 4],
        50: [0, 7, 4],
        90: [0, 7, 4],
    }
    assert len(plan()) == 33


def test_images_are_spread_over_sources_before_a_seed_is_used_again() -> None:
    made = plan(levels=(50,))
    requests = [made.request(row) for row in range(len(made))]
    lynxes = [(r.source_key, r.seed) for r in requests if r.class_name == "lynx"]
    assert lynxes == [
        ("l0", 0), ("l1", 0), ("l2", 0), ("l0", 1), ("l1", 1), ("l2", 1), ("l0", 2),
    ]  # fmt: skip
    assert Counter(r.source_key for r in requests if r.class_name == "wolf") == {"w0": 2, "w1": 2}


def test_levels_of_an_image_share_source_and_seed_and_so_their_noise() -> None:
    made = plan()
    by_level = {
        level: [(r.source_key, r.seed, r.noise_seed) for r in requests]
        for level in (0, 50, 90)
        for requests in [[made.request(int(row)) for row in np.flatnonzero(made.level == level)]]
    }
    assert by_level[0] == by_level[50] == by_level[90]


def test_a_request_has_everything_its_pixels_depend_on() -> None:
    request = plan(levels=(90,), template=replace(TEMPLATE, first_seed=10)).request(0)
    assert request.source_key == "l0"
    assert request.source_sha256 == "b" * 64
    assert (request.label, request.class_name) == (1, "lynx")
    assert request.prompt == "a photo of a lynx"
    assert (request.image_guidance, request.seed) == (90, 10)
    assert request.guidance == TEMPLATE.guidance
    assert request.backbone == TEMPLATE.backbone


def test_seeds_beyond_32_bits() -> None:
    made = plan(levels=(0,), template=replace(TEMPLATE, first_seed=2**32 - 1))
    assert made.request(3).seed == 2**32


def test_shards_hold_one_level_and_every_request_once() -> None:
    shards = list(plan().shards(5))
    assert [len(requests) for _, requests in shards] == [5, 5, 1] * 3
    for name, requests in shards:
        (level,) = {request.image_guidance for request in requests}
        assert re.fullmatch(rf"g{level:03d}-[0-9a-f]{{32}}", name)
    keys = [request.key for _, requests in shards for request in requests]
    assert len(set(keys)) == len(keys) == len(plan())
    assert len({name for name, _ in shards}) == len(shards)


def test_shard_rows_are_the_shards_without_their_requests() -> None:
    made = plan()
    for (name, rows), (same, requests) in zip(made.shard_rows(5), made.shards(5), strict=True):
        assert name == same
        assert [made.request(int(row)) for row in rows] == list(requests)


def shard_names(made: GenerationPlan, images_per_shard: int = 5) -> list[str]:
    return [name for name, _ in made.shard_rows(images_per_shard)]


def test_a_further_level_leaves_the_shards_of_the_others_as_they_are() -> None:
    before, after = shard_names(plan((0, 90))), shard_names(plan((90, 50, 0)))
    assert {name for name in after if not name.startswith("g050")} == set(before)


def test_levels_are_made_in_the_order_given() -> None:
    made = plan((90, 0, 50))
    assert made.levels() == (90, 0, 50)
    assert list(made.counts()) == [90, 0, 50]
    assert [name[:4] for name in shard_names(made)] == ["g090"] * 3 + ["g000"] * 3 + ["g050"] * 3
    assert [made.request(row).image_guidance for row in (0, 11, 22)] == [90, 0, 50]


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,
        replace(TEMPLATE, image_inputs=ImageInputs(control="edges")),
        replace(TEMPLATE, prompt='"{class_name}" ä', class_names=("häre", "ly\\nx", 'wo"lf')),
    ],
)
def test_keys_without_requests_are_the_requests_keys(template: RequestTemplate) -> None:
    made = plan((0, 100), template=template)
    rows = np.array([0, 21, 3, 12, 7])
    assert made.keys(rows) == [made.request(int(row)).key for row in rows]


def test_more_sources_of_a_class_that_gets_nothing_change_no_shard() -> None:
    more = SourceImages(
        keys=("new", *SOURCES.keys),
        sha256=("0" * 64, *SOURCES.sha256),
        labels=np.array([0, *SOURCES.labels.tolist()]),
    )
    assert shard_names(plan(sources=more)) == shard_names(plan())


@pytest.mark.parametrize(
    "template",
    [
        replace(TEMPLATE, prompt="{class_name}"),
        replace(TEMPLATE, num_inference_steps=40),
        replace(TEMPLATE, guidance=MethodSpec(name="none")),
        replace(TEMPLATE, sampler=MethodSpec(name="ddim", params={"eta": 1.0})),
        replace(TEMPLATE, backbone="other"),
        replace(TEMPLATE, first_seed=1),
        replace(TEMPLATE, class_names=("hare", "bobcat", "fox")),
    ],
)
def test_shards_of_other_requests_have_other_names(template: RequestTemplate) -> None:
    assert not set(shard_names(plan())) & set(shard_names(plan(template=template)))


@pytest.mark.parametrize("changed", ["keys", "sha256"])
def test_shards_of_other_sources_have_other_names(changed: str) -> None:
    values = tuple(value + "x" for value in (SOURCES.keys if changed == "keys" else SOURCES.sha256))
    sources = SourceImages(
        keys=values if changed == "keys" else SOURCES.keys,
        sha256=values if changed == "sha256" else SOURCES.sha256,
        labels=SOURCES.labels,
    )
    assert not set(shard_names(plan())) & set(shard_names(plan(sources=sources)))


def test_classes_of_another_shard_do_not_touch_a_name() -> None:
    renamed = replace(TEMPLATE, class_names=("hare", "lynx", "fox"))
    before, after = shard_names(plan((0,)), 7), shard_names(plan((0,), template=renamed), 7)
    assert before[0] == after[0]  # 7 lynxes
    assert before[1] != after[1]  # 4 wolves


def test_model_calls_count_the_steps_that_levels_run() -> None:
    # 11 images a level: 50, 25 and 5 steps of two evaluations each.
    assert plan().num_model_calls(2.0, num_denoising_steps) == 11 * (50 + 25 + 5) * 2
    assert plan(levels=(100,)).num_model_calls(2.0, num_denoising_steps) == 0


def test_level_90_of_50_steps_runs_5_where_floats_give_4() -> None:
    assert int(50 * (1 - 0.9)) == 4
    assert num_denoising_steps(50, 90) == 5
    assert plan(levels=(90,)).num_model_calls(1.0, num_denoising_steps) == 11 * 5


@pytest.mark.parametrize(("levels", "steps"), [((48, 50), 10), ((1, 4), 20), ((97, 98), 50)])
def test_levels_that_share_a_start_step_are_refused(levels: tuple[int, int], steps: int) -> None:
    runs = num_denoising_steps(steps, levels[0])
    with pytest.raises(ConfigError) as caught:
        check_levels(levels, steps, num_denoising_steps)
    assert caught.value.field == "generation.levels"
    assert f"{levels[0]} and {levels[1]} both run {runs}" in str(caught.value)


def test_a_level_that_runs_no_step_is_refused_unless_it_is_the_image_itself() -> None:
    with pytest.raises(ConfigError, match="level 99 of 50 steps runs none"):
        check_levels([99], 50, num_denoising_steps)
    check_levels([100, 98, 0], 50, num_denoising_steps)


def test_an_empty_hard_set_is_refused() -> None:
    nothing = SourceImages(keys=(), sha256=(), labels=np.array([], dtype=np.int64))
    with pytest.raises(DataError, match="hard set is empty"):
        plan(sources=nothing)


GRID = tuple(MethodSpec(name="cfg", params={"guidance_scale": scale}) for scale in (1.5, 3.0, 5.0))


def test_variants_take_turns_over_a_classs_images_and_over_a_sources_rounds() -> None:
    template = dataclasses.replace(TEMPLATE, variants=GRID)
    found = plan(wanted=(0, 9, 4), template=template)
    for label, count in ((1, 9), (2, 4)):
        own = (found.sources.labels[found.source] == label) & (found.level == 50)
        shares = np.bincount(found.variant[own], minlength=3)
        assert shares.sum() == count
        assert shares.max() - shares.min() <= 1
    for source in (1, 2, 3):  # three sources, three variants: each source still meets all
        own = (found.source == source) & (found.level == 0)
        assert sorted(found.variant[own].tolist()) == [0, 1, 2]


def test_variants_are_in_requests_keys_and_names_of_shards() -> None:
    template = dataclasses.replace(TEMPLATE, variants=GRID)
    found, plain = plan(template=template), plan()
    rows = np.arange(len(found))
    requests = [found.request(int(row)) for row in rows]
    assert [request.key for request in requests] == found.keys(rows)
    assert {r.guidance.params["guidance_scale"] for r in requests} == {1.5, 3.0, 5.0}
    other = dataclasses.replace(TEMPLATE, variants=GRID[::-1])
    names = [
        {name for name, _ in each.shard_rows(4)} for each in (found, plain, plan(template=other))
    ]
    assert names[0].isdisjoint(names[1])
    assert names[0].isdisjoint(names[2])


def test_more_images_leave_the_variants_of_earlier_ones() -> None:
    template = dataclasses.replace(TEMPLATE, variants=GRID)
    few, many = (plan(wanted=(0, n, 4), template=template) for n in (7, 12))
    assert set(few.keys(np.arange(len(few)))) <= set(many.keys(np.arange(len(many))))
