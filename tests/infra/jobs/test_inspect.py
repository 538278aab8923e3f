"""Facts of a network, and whether it fits the run."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from generators.consistency_schedule import ConsistencySchedule
from generators.errors import CheckpointError, ConfigError
from infra.jobs.inspect import check_class_names, check_starts, inspect_backbone
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


def test_levels_of_a_consistency_model_that_start_together_are_refused(image_folder: Path) -> None:
    """Its plan cannot see it: every level runs all steps."""
    alphas_cumprod = (1 - torch.linspace(0.03, 0.11, 1000).square()).cumprod(0)
    schedule = ConsistencySchedule(alphas_cumprod=alphas_cumprod, prediction_type="epsilon")
    changes = ("generation.num_inference_steps=4",)
    backbone: Any = SimpleNamespace(schedule=schedule)
    apart = config_for(image_folder, *changes, "generation.levels=[10, 50, 52]").generation
    together = config_for(image_folder, *changes, "generation.levels=[10, 51, 52]").generation
    check_starts(backbone, apart)
    with pytest.raises(ConfigError, match="51 and 52 start at the same step"):
        check_starts(backbone, together)
