"""Facts of a network, and whether it fits the run."""

from dataclasses import replace
from pathlib import Path

import pytest

from generators.errors import CheckpointError, ConfigError
from infra.jobs.inspect import check_class_names, inspect_backbone
from tests.infra.jobs.world import BACKBONE, World, config_for, method, run


def test_facts(world: World) -> None:
    assert world.facts.class_names == ("across", "rare", "upright")
    assert world.facts.card == {"knowledge": "the exact mixture"}
    assert world.facts.seconds_per_call == 0.0
    assert world.config.generation.backbone is not None
    again = run(inspect_backbone, world.config.generation.backbone, world.config, False)
    assert again == world.facts


def test_calibration_measures_a_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.jobs.inspect.TIMED_SECONDS", 0.05)
    backbone = world.config.generation.backbone
    facts = run(inspect_backbone, backbone, world.config, True)
    assert 0 < facts.seconds_per_call < 0.1


@pytest.mark.parametrize(
    ("change", "field"),
    [("data.channels=3", "data.channels"), ("generation.num_inference_steps=1001", "num_infer")],
)
def test_a_network_that_does_not_fit_is_refused(
    image_folder: Path, change: str, field: str
) -> None:
    config = config_for(image_folder, change)
    with pytest.raises(ConfigError) as caught:
        run(inspect_backbone, config.generation.backbone, config, False)
    assert field in caught.value.field


def test_a_network_that_is_not_there_is_refused(image_folder: Path) -> None:
    config = config_for(image_folder)
    with pytest.raises(CheckpointError, match="nowhere"):
        run(inspect_backbone, method("pixel_unet", path="nowhere"), config, False)


def test_classes_the_network_does_not_know_are_named(world: World) -> None:
    check_class_names(world.facts, ["rare"])
    check_class_names(replace(world.facts, class_names=None), ["anything"])
    with pytest.raises(ConfigError) as caught:
        check_class_names(world.facts, ["rare", "rar"])
    assert caught.value.value == "rar"
    assert "did you mean 'rare'?" in str(caught.value)
    assert set(BACKBONE["means"]) == {"across", "rare", "upright"}
