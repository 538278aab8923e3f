"""Configs, checkpoints and outputs of others name things; nothing they name is run."""

import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from generators.classifiers import create_classifier
from generators.errors import ConfigError, UserError
from generators.registry import FAMILIES, MethodSpec, build, method
from infra.cli.app import app
from infra.config import RunConfig
from infra.config.load import override, read_preset, validate
from infra.config.preset import Preset

TAGS = (
    "!!python/object/apply:os.mkdir [MARK]",
    "!!python/object/new:os.mkdir [MARK]",
    "!!python/object/apply:os.system ['mkdir MARK']",
    "!!python/name:os.system",
    "!!python/module:planted",
    "!!python/object:planted.Evil {}",
)
NAMES = (
    "planted",
    "planted.Evil",
    "planted:Evil",
    "..planted",
    "../planted",
    "/planted",
    "os.system",
    "__init__",
    "base",
    "cfg.__class__",
    "generators.guidance.cfg",
    "",
)
MODELS = ("planted", "planted:Evil", "hf-hub:owner/name", "local-dir:FOLDER", "os.system", "../x")
"""Of classifiers."""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What appears where the module `planted`, which can be imported, is imported."""
    found = tmp_path / "mark"
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "planted.py").write_text(f"import os\nos.mkdir({str(found)!r})\nclass Evil: ...\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    return found


def discl(*words: object) -> tuple[int, str]:
    ended = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stderr


@pytest.mark.parametrize("tag", TAGS)
def test_tags_in_yaml_are_mistakes_of_the_user(tag: str, tmp_path: Path, mark: Path) -> None:
    text = tag.replace("MARK", str(mark))
    config, output = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(read_preset("digits")) + f"knowledge: {text}\n")
    for words in (
        ["run", config, "-o", output],
        ["fit", config, "-o", output],
        ["plan", config],
        ["run", "--preset", "digits", "-o", output, "-s", f"name={text}"],
    ):
        code, said = discl(*words)
        assert code == 2, said
    with pytest.raises(UserError):
        Preset(preset="digits", changes={f"x={text}\ny": 1}).config()
    assert not mark.exists()
    assert not output.exists()


@pytest.mark.parametrize("tag", TAGS)
def test_tags_in_the_config_of_an_output_are_mistakes_too(
    tag: str, tmp_path: Path, mark: Path
) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / "config.yaml").write_text("name: " + tag.replace("MARK", str(mark)) + "\n")
    for name in ("facts.json", "result.json"):
        (output / name).write_text("{}")
    for words in (
        ["run", "--preset", "digits", "-o", output],
        ["run", "--preset", "digits", "-o", output, "--update"],
        ["report", output],
    ):
        code, said = discl(*words)
        assert code == 2, said
    assert not mark.exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_methods_are_names_of_our_files(name: str, mark: Path) -> None:
    for family in FAMILIES:
        for look in (method, lambda f, n: build(f, MethodSpec(name=n))):
            with pytest.raises(ConfigError, match="is not allowed; expected one of"):
                look(family, name)
    for field in ("generation.guidance", "data.source", "curriculum.schedule", "training.loss"):
        with pytest.raises(UserError, match=field):
            validate(RunConfig, override(read_preset("digits"), [f"{field}={{name: {name!r}}}"]))
    assert not mark.exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize("name", MODELS)
def test_names_of_classifiers_are_timm_s_own(name: str, tiny_timm_folder: Path, mark: Path) -> None:
    with pytest.raises(ConfigError, match="or a timm model name"):
        create_classifier(name.replace("FOLDER", str(tiny_timm_folder)), 5, 3)
    assert not mark.exists()


@pytest.mark.parametrize(
    "prompt", ["{class_name.__class__}", "{class_name!r}", "{0}", "{class_name:>99999999}", "{x}"]
)
def test_prompts_are_no_programs(prompt: str) -> None:
    with pytest.raises(UserError, match=r"generation\.prompt"):
        validate(RunConfig, override(read_preset("digits"), [f"generation.prompt={prompt!r}"]))
