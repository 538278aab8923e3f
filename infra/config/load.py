"""Reads a config from a file or a preset, with overrides; names every mistake before any work."""

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from generators.errors import ConfigError, UserError, one_of
from infra.config.schema import RunConfig

Config = TypeVar("Config", bound=BaseModel)


def preset_names() -> tuple[str, ...]:
    """Names of the configs that ship with the package."""
    folder = files("infra") / "presets"
    found = (Path(item.name) for item in folder.iterdir())
    return tuple(sorted(path.stem for path in found if path.suffix == ".yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The plain data of a preset.

    Raises:
        ConfigError: no such preset.
    """
    if name not in preset_names():
        raise ConfigError("--preset", name, one_of(preset_names(), name))
    data: dict[str, Any] = yaml.safe_load((files("infra") / "presets" / f"{name}.yaml").read_text())
    return data


def read_file(path: Path) -> dict[str, Any]:
    """The plain data of a YAML (or JSON) file.

    Raises:
        UserError: missing file, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no config file {str(path)!r} (presets: {', '.join(preset_names())})")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {type(data).__name__}")
    return data


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Applies `key.path=value` assignments; values are YAML, so `a.b=[0, 50]` is a list.

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


def _assign(data: dict[str, Any], keys: list[str], value: Any, path: str) -> dict[str, Any]:
    head, rest = keys[0], keys[1:]
    if not rest:
        return {**data, head: value}
    below = data.get(head, {})
    if isinstance(below, str):  # a method by name: `guidance: cfg` and guidance.guidance_scale=3
        below = {"name": below}
    if below is None:
        below = {}
    if not isinstance(below, dict):
        raise ConfigError("--set", path, f"a path through sections; {head!r} is {below!r}")
    return {**data, head: _assign(below, rest, value, path)}


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
    return validate(RunConfig, override(read_config(path, preset), assignments))


def read_config(path: Path | None, preset: str | None) -> dict[str, Any]:
    """Plain data from exactly one of a file and a preset."""
    if (path is None) == (preset is None):
        raise UserError(
            "give a config file or --preset NAME, one of them "
            f"(presets: {', '.join(preset_names())})"
        )
    return read_file(path) if path is not None else read_preset(str(preset))


def _line(model: type[BaseModel], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        fields = _fields_at(model, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), fields, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{where}: unknown key; allowed here: {', '.join(fields)}{hint}"
    if item["type"] == "missing":
        return f"{where}: missing; it has no default"
    return f"{where}: {item['input']!r} is not allowed; {item['msg']}"


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section at `loc`."""
    current: Any = model
    for part in loc:
        fields = current.model_fields if isinstance(current, type) else {}
        if part not in fields:
            return sorted(_arm_fields(current))
        annotation = fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        sections = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        current = sections[0] if sections else None
        if current is None:
            return []
    return sorted(current.model_fields)


def _arm_fields(current: Any) -> list[str]:
    return list(current.model_fields) if isinstance(current, type) else []
