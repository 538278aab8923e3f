"""What the README shows must be true."""

import re
from pathlib import Path

import yaml

from infra.cli.app import app
from infra.config import RunConfig
from infra.config.load import validate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_config_of_the_readme_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = validate(RunConfig, yaml.safe_load(block))
    assert set(config.arms()) == {"baseline", "curriculum", "mixed", "oversampling"}


def test_every_command_is_in_the_readme() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"discl {command.callback.__name__}" in README


def test_pictures_and_files_of_the_readme_exist() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        if not path.startswith("http"):
            assert (ROOT / path).is_file(), path
