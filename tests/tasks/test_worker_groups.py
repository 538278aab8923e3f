"""What a config says of workers, as a pool takes it."""

import pytest

from generators.errors import UserError
from infra.workers.layout import GroupSpec
from tasks.runtime import worker_groups
from tests.support.tiny_run import tiny_config


def test_a_config_without_groups_is_one() -> None:
    config = tiny_config("workers={kind: ray, count: 3, gpus: 0.5, resources: {license: 1}}")
    expected = GroupSpec(count=3, gpus=0.5, resources={"license": 1.0}, place="workers")
    assert worker_groups(config.workers) == [expected]


def test_groups_keep_their_places_for_errors() -> None:
    config = tiny_config(
        "workers={kind: ray, groups: [{count: 2, resources: {'accelerator_type:A100': 0.01}}, {}]}"
    )
    assert worker_groups(config.workers) == [
        GroupSpec(count=2, resources={"accelerator_type:A100": 0.01}, place="workers.groups.0"),
        GroupSpec(place="workers.groups.1"),
    ]


@pytest.mark.parametrize(
    "workers",
    ["groups: [{count: 2}], count: 3", "groups: [{gpus: 1.5}]", "resources: {license: 0}"],
)
def test_groups_that_contradict_are_refused(workers: str) -> None:
    with pytest.raises(UserError, match="workers"):
        tiny_config(f"workers={{kind: ray, {workers}}}")
