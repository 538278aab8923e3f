"""Reads a config from a file or a preset, with overrides; names every mistake before any work."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from generators.errors import ConfigError, UserError, one_of
from infra.config.schema import FitConfig, RunConfig
from infra.config.section import MISTAKE

WORDING = (  # pydantic's words to a YAML user's
    (r"^(expected )?Input should be", "expected"),
    (r"^expected (\w+ should )", r"\1"),
    (r"a valid dictionary( or instance of \w+)?", "a section (key: value)"),
    (r"a valid (tuple|list)", "a list"),
)

Config = TypeVar("Config", bound=BaseModel)


@cache
def preset_names(model: type[BaseModel] | None = None) -> tuple[str, ...]:
    """Names of the configs that ship with the package; of one kind only, if given."""
    folder = files("infra") / "presets"
    found = (Path(item.name) for item in folder.iterdir())
    names = sorted(path.stem for path in found if path.suffix == ".yaml")
    return tuple(name for name in names if model in (None, kind_of(read_preset(name))))


def kind_of(data: Mapping[str, Any]) -> type[RunConfig] | type[FitConfig]:
    """What plain data is meant to be: of a run, or of a generator to be fitted (`discl fit`)."""
    only_fit = FitConfig.model_fields.keys() - RunConfig.model_fields.keys()
    return FitConfig if "generation" not in data and only_fit & data.keys() else RunConfig


def read_preset(name: str) -> dict[str, Any]:
    """The plain data of a preset.

    Raises:
        ConfigError: no such preset.
    """
    path = files("infra") / "presets" / f"{name}.yaml"
    if "/" in name or not path.is_file():
        raise ConfigError("--preset", name, one_of(preset_names(), name))
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def read_file(path: Path) -> dict[str, Any]:
    """The plain data of a YAML (or JSON) file.

    Raises:
        UserError: missing file, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no config file {str(path)!r} (presets: {', '.join(preset_names())})")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {type(data).__name__}")
    return data


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Applies `key.path=value` assignments; values are YAML, so `a.b=[0, 50]` is a list.

    Numbers in a path count the items of a list, from 0.

    Raises:
        ConfigError: an assignment without `=`, or a path through something that is no section.
    """
    result = dict(data)
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not sign or not all(keys):
            raise ConfigError("--set", assignment, "key.path=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError("--set", assignment, "key.path=value with a YAML value") from error
        result = _assign(result, keys, value, path)
    return result


def _assign(data: Any, keys: list[str], value: Any, path: str) -> Any:
    """`data` with the value at the path of keys; sections that are missing are made."""
    if not keys:
        return value
    head, rest = keys[0], keys[1:]
    if data == "match_many":  # `target` is a choice: another one takes its place
        data = {}
    elif isinstance(data, str):  # a method by name: `guidance: cfg` and guidance.guidance_scale=3
        data = {"name": data}
    elif data is None:
        data = {}
    if isinstance(data, list) and head.isdecimal() and int(head) < len(data):
        place = int(head)
        return [*data[:place], _assign(data[place], rest, value, path), *data[place + 1 :]]
    if not isinstance(data, dict):
        raise ConfigError("--set", path, f"a path through sections; {data!r} has no {head!r}")
    return {**data, head: _assign(data.get(head), rest, value, path)}


def validate(model: type[Config], data: Any) -> Config:
    """Builds a config.

    Raises:
        UserError: all mistakes at once, one a line, each with field, value and what is allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_line(model, item) for item in error.errors()]
        raise UserError("\n".join(lines)) from error


def load_config(
    path: Path | None, preset: str | None, assignments: Sequence[str] = ()
) -> RunConfig:
    """The config of a run from a file or a preset, with overrides.

    Raises:
        UserError: none or both given, or anything wrong in them.
    """
    return _load(RunConfig, path, preset, assignments)


def load_fit_config(
    path: Path | None, preset: str | None, assignments: Sequence[str] = ()
) -> FitConfig:
    """The config of a generator to be fitted, likewise."""
    return _load(FitConfig, path, preset, assignments)


def _load(
    model: type[Config], path: Path | None, preset: str | None, assignments: Sequence[str]
) -> Config:
    if (path is None) == (preset is None):
        known = ", ".join(preset_names(model))
        raise UserError(f"give a config file or --preset NAME, one of them (presets: {known})")
    data = read_file(path) if path is not None else read_preset(str(preset))
    if kind_of(data) is not model:
        fitting = kind_of(data) is FitConfig
        raise UserError(
            f"{path or preset} is a config {'of a generator' if fitting else 'of a run'}: "
            f"use `discl {'fit' if fitting else 'run'}`"
        )
    return validate(model, override(data, assignments))


def _line(model: type[BaseModel], item: Any) -> str:
    """One mistake of pydantic's list in one line."""
    loc = [str(part) for part in item["loc"] if part != "[key]"]
    where = ".".join(loc)
    if item["type"] == "extra_forbidden":
        fields = sorted(_section_at(model, loc[:-1]).model_fields)
        close = difflib.get_close_matches(loc[-1], fields, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{where}: unknown key; allowed here: {', '.join(fields)}{hint}"
    value, message = item["input"], str(item["msg"])
    if item["type"] == MISTAKE:
        where = ".".join(part for part in (where, item["ctx"]["below"]) if part)
        value = item["ctx"]["value"]
    if message.endswith("Field required"):
        return f"{where}: missing; it has no default"
    for found, shown in WORDING:
        message = re.sub(found, shown, message)
    return f"{where}: {value!r} is not allowed; {message}"


def _section_at(model: type[BaseModel], loc: Sequence[str]) -> type[BaseModel]:
    """The section at a location."""
    current = model
    for part in loc:
        if part in current.model_fields:  # else it is the name of an arm, in a mapping of arms
            annotation = current.model_fields[part].annotation
            options = [annotation, *get_args(annotation)]
            current = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return current
