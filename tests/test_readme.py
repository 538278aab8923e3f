"""What the README shows must be true."""

import re
from pathlib import Path

import yaml

from generators.registry import names
from infra.cli.app import app
from infra.config import RunConfig
from infra.config.load import validate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_configs_of_the_readme_are_valid() -> None:
    found = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
    whole, checkpoint, study = found
    config = validate(RunConfig, whole)
    assert set(config.arms()) == {"baseline", "curriculum", "mixed", "oversampling"}
    config = validate(RunConfig, {**whole, **checkpoint})
    assert config.generation.backbone is not None
    assert config.generation.backbone.name == "stable_diffusion"
    config = validate(RunConfig, {**whole, **study})
    assert {"cuda", "cuda-balanced", "oversampling-decoupled"} <= set(config.arms())


def test_the_checkpoints_of_the_readme_are_those_there_are() -> None:
    table = README[README.index("| method | checkpoints |") :].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`(?=[,| ])", table)) >= set(names("backbone")) - {"toy"}


def test_the_curricula_and_ways_of_balancing_of_the_readme_are_all_there_are() -> None:
    part = README[README.index("**Curricula and balancing.**") :].partition("```yaml")[0]
    named = set(re.findall(r"`(?:augmentation: )?(\w+)`", part))
    for family in ("schedule", "loss", "augmentation", "rebalancer"):
        assert set(names(family)) - {"none", "cross_entropy"} <= named


def test_the_guidance_of_the_readme_is_all_there_is() -> None:
    table = README[README.index("| method | what for |") :].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()]
    named = {name for row in rows for name in re.findall(r"`(\w+)(?::NAME)?`", row)}
    assert named == set(names("guidance")) - {"together"}


def test_every_command_is_in_the_readme() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"discl {command.name or command.callback.__name__}" in README


def test_pictures_and_files_of_the_readme_exist() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        if not path.startswith("http"):
            assert (ROOT / path).is_file(), path
