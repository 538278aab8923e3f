"""Files, presets and overrides."""

from pathlib import Path
from typing import Any

import pytest

from generators.errors import ConfigError, UserError
from infra.config import FitConfig, RunConfig, load_config, load_fit_config, preset_names
from infra.config.load import override, read_file, read_preset


@pytest.mark.parametrize("name", preset_names(RunConfig))
def test_every_preset_of_a_run_validates(name: str) -> None:
    assert load_config(None, name).name == name


NEEDED = {"handwriting": ["data.source.path=mnist.npz"]}  # what only the user knows


@pytest.mark.parametrize("name", preset_names(FitConfig))
def test_every_preset_of_a_generator_validates(name: str) -> None:
    assert load_fit_config(None, name, NEEDED.get(name, [])).name == name


def test_a_preset_that_needs_a_path_asks_for_it() -> None:
    with pytest.raises(UserError, match=r"data\.source: .* expected either `path`"):
        load_fit_config(None, "handwriting")


def test_presets_are_of_one_kind_or_the_other() -> None:
    assert "digits" in preset_names(RunConfig)
    assert "handwriting" in preset_names(FitConfig)
    assert sorted(preset_names(RunConfig) + preset_names(FitConfig)) == list(preset_names())


def test_the_wrong_command_for_a_preset_names_the_right_one() -> None:
    with pytest.raises(UserError, match="handwriting is a config of a generator: use `discl fit`"):
        load_config(None, "handwriting")
    with pytest.raises(UserError, match="digits is a config of a run: use `discl run`"):
        load_fit_config(None, "digits")


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, "digit")
    assert "'handwriting'" in str(caught.value)
    assert "did you mean 'digits'?" in str(caught.value)


@pytest.mark.parametrize("name", ["../presets/digits", ""])
def test_a_preset_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="--preset"):
        read_preset(name)


def test_a_file_or_a_preset_is_needed_but_not_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--preset NAME, one of them \(presets: .*digits, "):
        load_config(None, None)
    with pytest.raises(UserError, match="one of them"):
        load_config(tmp_path / "run.yaml", "digits")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- a", "expected a mapping of sections, found list"),
        (b"", "expected a mapping of sections, found NoneType"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config file '.*lost\.yaml' \(presets: .*digits"):
        load_config(tmp_path / "lost.yaml", None)
    with pytest.raises(UserError, match="no config file"):
        load_config(tmp_path, None)


def test_a_file_with_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: é\n" + "training: {learning_rate: 1e-4, seeds: 2}\n", encoding="utf-8")
    assert read_file(path)["name"] == "é"
    made = load_config(None, "digits", ["training.learning_rate=1e-4"])
    assert made.training.learning_rate == 1e-4  # a text in YAML 1.1


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["a=1"], {"a": 1}),
        (["a=[0, 50]"], {"a": [0, 50]}),
        (["a=", "b=null"], {"a": None, "b": None}),
        (["a.b.c=x", "a.d=y"], {"a": {"b": {"c": "x"}, "d": "y"}}),
        (["a=1", "a=2"], {"a": 2}),
        (["a=b=c"], {"a": "b=c"}),
        (["a.b=1", "a=2"], {"a": 2}),
    ],
)
def test_assignments(assignments: list[str], expected: dict[str, Any]) -> None:
    assert override({}, assignments) == expected


def test_assignments_reach_into_methods_named_by_a_word() -> None:
    data = {"generation": {"guidance": "cfg", "levels": [0, 50]}, "data": None}
    made = override(
        data,
        ["generation.guidance.guidance_scale=3", "generation.levels.1=60", "data.channels=1"],
    )
    assert made == {
        "generation": {"guidance": {"name": "cfg", "guidance_scale": 3}, "levels": [0, 60]},
        "data": {"channels": 1},
    }
    assert data == {"generation": {"guidance": "cfg", "levels": [0, 50]}, "data": None}


def test_assignments_reach_into_the_methods_of_a_list() -> None:
    made = override({"judges": ["classifier", "clip"]}, ["judges.0.min_probability=0.5"])
    assert made == {"judges": [{"name": "classifier", "min_probability": 0.5}, "clip"]}


def test_another_target_takes_the_place_of_match_many() -> None:
    made = load_config(None, "digits", ["generation.target.per_class=3"])
    assert made.generation.target.per_class == 3
    assert not made.generation.target.match_many


def test_overrides_of_a_preset_arrive() -> None:
    made = load_config(
        None,
        "digits",
        ["generation.guidance.guidance_scale=3", "generation.sampler.eta=0.5", "training.seeds=5"],
    )
    assert made.generation.guidance.params["guidance_scale"] == 3.0
    assert made.generation.sampler.params["eta"] == 0.5
    assert made.training.seeds == 5


@pytest.mark.parametrize("assignment", ["x", "=3", ".a=3", "a..b=3", "a=[", "a.=1"])
def test_assignments_that_are_none(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override({}, [assignment])
    assert caught.value.field == "--set"
    assert caught.value.value == assignment


@pytest.mark.parametrize("path", ["a.b", "a.7.b", "c.1"])
def test_paths_through_what_is_no_section(path: str) -> None:
    with pytest.raises(ConfigError, match="a path through sections"):
        override({"a": [1], "c": 5}, [f"{path}=1"])
