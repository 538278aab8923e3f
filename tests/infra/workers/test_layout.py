"""Every worker finds a place: what does not fit would wait for ever."""

import pytest

from generators.errors import ConfigError
from infra.workers.layout import GroupSpec, lay_out, lay_out_growing


def numbers(*nodes: dict[str, float], **asked: float | None) -> tuple[float, ...]:
    found = lay_out(nodes, GroupSpec(**asked))  # type: ignore[arg-type]
    return found.size, found.threads, found.num_cpus, found.num_gpus


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (8, 1, 1, 0)),
        ({"count": 2}, (2, 4, 4, 0)),
        ({"count": 3}, (3, 2, 2, 0)),
        ({"count": 16}, (16, 1, 0.5, 0)),
        ({"count": 20}, (20, 1, 1 / 3, 0)),
        ({"count": 2, "threads": 3}, (2, 3, 3, 0)),
        ({"count": 4, "threads": 8}, (4, 8, 2, 0)),  # reserves what is there
        ({"threads": 2}, (8, 2, 1, 0)),
        ({"gpus": 0}, (8, 1, 1, 0)),
    ],
)  # fmt: skip
def test_a_machine_with_8_cpus(asked: dict[str, float], expected: tuple[float, ...]) -> None:
    assert numbers({"CPU": 8.0}, **asked) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (2, 4, 4, 1)),
        ({"gpus": 0.25}, (8, 1, 1, 0.25)),
        ({"gpus": 0.1}, (20, 1, 1 / 3, 0.1)),  # 1 // 0.1 is 9
        ({"count": 1}, (1, 8, 8, 1)),
        ({"count": 1, "gpus": 2}, (1, 8, 8, 2)),
        ({"gpus": 0}, (8, 1, 1, 0)),
    ],
)
def test_a_machine_with_8_cpus_and_2_gpus(
    asked: dict[str, float], expected: tuple[float, ...]
) -> None:
    assert numbers({"CPU": 8.0, "GPU": 2.0}, **asked) == pytest.approx(expected)


def test_no_worker_needs_more_than_a_machine_has() -> None:
    two = ({"CPU": 3.0}, {"CPU": 3.0})
    assert numbers(*two, count=1) == (1, 6, 3, 0)
    assert numbers(*two, count=3) == (3, 2, 1, 0)  # at 2 CPUs each only two would fit
    assert numbers(*two) == (6, 1, 1, 0)


def test_only_machines_with_gpus_count_where_gpus_are_used() -> None:
    nodes = ({"CPU": 64.0}, {"CPU": 8.0, "GPU": 4.0})
    assert numbers(*nodes) == (4, 2, 2, 1)


def test_a_head_without_cpus_gets_no_worker() -> None:
    assert numbers({"CPU": 0.0}, {"CPU": 4.0}) == (4, 1, 1, 0)


@pytest.mark.parametrize(
    ("nodes", "asked", "field"),
    [
        (({"CPU": 8.0},), {"gpus": 1}, "workers.gpus"),
        (({"CPU": 8.0},), {"gpus": 0.5, "count": 2}, "workers.gpus"),
        (({"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}), {"gpus": 2}, "workers.gpus"),
        (({"CPU": 8.0, "GPU": 2.0},), {"count": 3}, "workers.count"),
        (({"CPU": 8.0, "GPU": 2.0},), {"count": 5, "gpus": 0.5}, "workers.count"),
    ],
)
def test_more_gpus_than_there_are_is_a_mistake_of_the_user(
    nodes: tuple[dict[str, float], ...], asked: dict[str, float], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        numbers(*nodes, **asked)
    assert caught.value.field == field


A100, L4 = "accelerator_type:A100", "accelerator_type:L4"
MIXED = (
    {"CPU": 16.0, "GPU": 4.0, A100: 1.0},
    {"CPU": 8.0, "GPU": 2.0, L4: 1.0},
    {"CPU": 8.0, "GPU": 2.0, L4: 1.0},
)


def test_a_group_goes_where_its_resources_are() -> None:
    assert numbers(*MIXED, resources={A100: 0.01}) == (4, 4, 4, 1)
    assert numbers(*MIXED, resources={L4: 0.01}, gpus=0.5) == (8, 2, 2, 0.5)
    found = lay_out(MIXED, GroupSpec(resources={L4: 0.01}))
    assert (found.size, dict(found.resources)) == (4, {L4: 0.01})


def test_other_resources_bound_the_number_of_workers() -> None:
    assert numbers({"CPU": 8.0, "license": 3.0}, resources={"license": 1.0}) == (3, 2, 2, 0)
    with pytest.raises(ConfigError, match=r"workers\.count: 4 .* at most 3"):
        numbers({"CPU": 8.0, "license": 3.0}, resources={"license": 1.0}, count=4)


def test_resources_that_no_machine_has_are_named() -> None:
    with pytest.raises(ConfigError, match=r"workers\.resources.*accelerator_type:A100"):
        numbers(*MIXED, resources={"accelerator_type:H100": 0.01})


def test_workers_that_machines_still_come_for_need_a_number_alone() -> None:
    found = lay_out_growing(GroupSpec(count=100, gpus=1, threads=4))
    assert (found.size, found.threads, found.num_cpus, found.num_gpus) == (100, 4, 4, 1)
    with pytest.raises(ConfigError, match=r"workers\.count"):
        lay_out_growing(GroupSpec(gpus=1))
