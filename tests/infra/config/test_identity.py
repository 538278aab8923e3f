"""When two configs are the same run: one set of settings, one fingerprint, however it is spelt."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.config.load import override, validate
from tests.infra.config.test_schema import BASE, config


def test_two_spellings_of_the_same_settings_are_equal() -> None:
    plain = config()
    spelt = config(
        "generation.guidance={guidance_scale: 2, name: cfg}",
        "generation.sampler={name: ddim, eta: 0}",
        "generation.levels=[0, 20, 60]",
        "generation.target={match_many: true}",
        "training.augment={degrees: 0}",
        "hard_set={name: few_shot, threshold: 20}",
    )
    assert spelt == plain
    assert spelt.fingerprint() == plain.fingerprint()
    # A parameter left out stands in the spec all the same: a request says what it was made with.
    assert plain.generation.guidance.params["guidance_scale"] == 2.0


def test_parameters_without_a_name_are_of_the_default_method() -> None:
    made = validate(RunConfig, override({**BASE, "hard_set": {"threshold": 9}}, []))
    assert made.hard_set == MethodSpec(name="few_shot", params={"threshold": 9})


def test_the_fingerprint_does_not_depend_on_workers_or_the_order_of_keys() -> None:
    def turned(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: turned(data[key]) for key in reversed(data)}
        return data

    plain = config()
    assert config("workers={kind: local, threads: 3}").fingerprint() == plain.fingerprint()
    assert validate(RunConfig, turned(BASE)).fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "data.seed=1",
        "generation.levels=[0, 20, 60, 80]",
        "generation.guidance.guidance_scale=2.5",
        "training.augment.degrees=1",
        "compare={}",
        "shards.images_per_shard=10",
    ],
)
def test_the_fingerprint_depends_on_everything_else(change: str) -> None:
    assert config(change).fingerprint() != config().fingerprint()


def test_plain_data_gives_the_same_config_back() -> None:
    made = config(
        "generation.target={factor: 0.5}",
        "data.long_tail={profile: {name: exponential, imbalance_factor: 9}, max_count: 80}",
    )
    again = validate(RunConfig, made.model_dump(mode="json"))
    assert again == made
    assert again.fingerprint() == made.fingerprint()
    assert validate(RunConfig, made) is made


def test_validation_leaves_the_data_alone() -> None:
    data = copy.deepcopy(BASE)
    validate(RunConfig, override(data, ["generation.guidance.guidance_scale=4"]))
    assert data == BASE


def test_values_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config().name = "other"  # type: ignore[misc]
