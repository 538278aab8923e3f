"""Finds methods by their file name and builds them from plain data. Knows no method.

A *family* is a package, e.g. `generators.guidance`; every module in it except `base` defines one
method: a frozen dataclass, named by `METHOD`. Its fields are its parameters; its docstring's first
line is what `discl methods` prints. Nothing is registered at import time: adding a file is enough.
"""

import dataclasses
import hashlib
import inspect
import json
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from generators.errors import ConfigError, one_of

T = TypeVar("T")
JsonValue = Any  # what json.loads can return; a recursive alias confuses pydantic's schema

FAMILIES: dict[str, str] = {
    "backbone": "generators.backbones",
    "guidance": "generators.guidance",
    "guidance_fit": "generators.guidance_fits",
    "sampler": "generators.samplers",
    "filter": "generators.filters",
    "objective": "generators.objectives",
    "source": "curriculum.sources",
    "profile": "curriculum.profiles",
    "hard_set": "curriculum.hard_sets",
    "schedule": "curriculum.schedules",
    "loss": "curriculum.losses",
    "sampling": "curriculum.samplings",
    "mixing": "curriculum.mixings",
    "augmentation": "curriculum.augmentations",
    "rebalancer": "curriculum.rebalancers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """A method by name with its parameters, as it stands in a config, a request or a manifest."""

    name: str
    params: Mapping[str, JsonValue] = field(default_factory=dict)

    def as_json(self) -> dict[str, JsonValue]:
        """The one plain form: `{"name": ..., **params}`."""
        return {"name": self.name, **self.params}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method, for help texts.

    Attributes:
        type: in words; `section` for one that has parameters of its own.
        default: plain data, as it stands in a config.
        parameters: of a section, or of each section in a list.
    """

    name: str
    type: str
    default: JsonValue
    required: bool
    parameters: tuple["Parameter", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """What `discl methods` shows of one method.

    Attributes:
        paper: and `cost` in model evaluations and gradients a step; of guidance.
    """

    family: str
    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    paper: str = ""
    cost: str = ""


def canonical_json(value: JsonValue) -> str:
    """JSON with sorted keys, no spaces, ASCII only: the same text for the same value everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: JsonValue, digits: int = 32) -> str:
    """First `digits` hex digits of the sha256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]


@cache
def names(family: str) -> tuple[str, ...]:
    """Names of all methods of a family, sorted."""
    package = import_module(FAMILIES[family])
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name != "base"))


def method(family: str, name: str, at: str = "") -> Any:
    """The dataclass of one method.

    Raises:
        ConfigError: no such method; the message lists the ones there are.
    """
    if name not in names(family):
        raise ConfigError(at or f"{family}.name", name, one_of(names(family), name))
    return import_module(f"{FAMILIES[family]}.{name}").METHOD


def build(family: str, spec: MethodSpec, at: str = "") -> Any:
    """Builds a method; `at` is the config field to name in errors.

    `name:variant` is a method that has variants, with all parameters but the variant's in one.

    Raises:
        ConfigError: unknown method, unknown or missing parameter, or value out of range.
    """
    name, colon, variant = spec.name.partition(":")
    cls, params = method(family, name, at), spec.params
    if colon:
        if not hasattr(cls, "VARIANT"):
            raise ConfigError(at or f"{family}.name", spec.name, f"{name!r}: it has no variants")
        params = {cls.VARIANT: variant, "settings": dict(params)}
    return from_params(cls, params, at or family)


def from_params(cls: type[T], params: Mapping[str, JsonValue], at: str) -> T:
    """Builds a frozen dataclass from plain data; `at` is the config field to name in errors.

    Raises:
        ConfigError: unknown or missing parameter, or value out of range.
    """
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in params:
        if name not in fields:
            allowed = one_of(fields, name) if fields else "no parameters (it has none)"
            raise ConfigError(f"{at}.{name}", params[name], allowed)
    try:
        return TypeAdapter(cls).validate_python(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([at, *(str(part) for part in first["loc"])])
        allowed = first["msg"].removeprefix("Input should be ")
        if first["type"] == "unexpected_keyword_argument":  # in a section: the rest is known above
            section = _section_at(cls, first["loc"][:-1])
            allowed = one_of((f.name for f in dataclasses.fields(section)), str(first["loc"][-1]))
        raise ConfigError(where, first.get("input"), allowed) from error


def describe(family: str, name: str) -> MethodInfo:
    """Name, one-line summary and parameters of a method, read from its dataclass."""
    cls = method(family, name)
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    info = MethodInfo(family=family, name=name, summary=summary, parameters=_parameters(cls))
    if family == "guidance":
        info = dataclasses.replace(info, paper=cls.card.paper, cost=cls.card.cost)
    return info


def _parameters(cls: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(cls, include_extras=True)
    parameters = []
    for item in dataclasses.fields(cls):
        required = (
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        )
        default = None if item.default is dataclasses.MISSING else item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        hint = hints[item.name]
        section = _section_in(hint)
        parameters.append(
            Parameter(
                name=item.name,
                type=_type_text(hint),
                default=TypeAdapter(hint).dump_python(default, mode="json", warnings=False),
                required=required,
                parameters=_parameters(section) if section else (),
            )
        )
    return tuple(parameters)


def _section_in(hint: Any) -> Any:
    """The dataclass a type is, or has within (a list of it, or none); None without one."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _section_in(part))), None)


def _section_at(cls: Any, path: Iterable[int | str]) -> Any:
    """The dataclass that stands at a location of pydantic's, e.g. `("adapters", "loras", 0)`."""
    for part in path:
        if isinstance(part, str):
            cls = _section_in(get_type_hints(cls, include_extras=True)[part])
    return cls


def _type_text(hint: Any) -> str:
    """A type as a user reads it: `list of int >= 0, <= 100`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "none"
    if dataclasses.is_dataclass(hint):
        return "section"
    if origin is None:
        return hint.__name__ if isinstance(hint, type) else str(hint)
    if origin is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return " | ".join(map(_type_text, arguments))
    if origin is dict:
        return f"mapping of {_type_text(arguments[0])} to {_type_text(arguments[1])}"
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return f"list of {_type_text(arguments[0])}"
    if origin is tuple:
        return f"({', '.join(map(_type_text, arguments))})"
    if origin is Annotated:
        return _bounded_text(hint)
    return str(hint)


def _bounded_text(hint: Any) -> str:
    base, *notes = get_args(hint)
    bounds = [
        f"{symbol} {getattr(bound, key)}"
        for note in notes
        for bound in getattr(note, "metadata", [note])
        for key, symbol in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(bound, key, None) is not None
    ]
    return " ".join([_type_text(base), ", ".join(bounds)]).strip()
