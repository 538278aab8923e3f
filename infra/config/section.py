"""What all sections of the config have in common, and how their mistakes are reported together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from generators.errors import ConfigError
from generators.places import WITHOUT_CREDENTIALS, has_credentials
from generators.registry import JsonValue, MethodSpec, canonical_json, from_params

T = TypeVar("T")

MISTAKE = "mistake"
"""Type of the errors that `collected` raises, in pydantic's lists."""

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"
"""Names become parts of file names: no slash, no leading dot."""

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _name_default_methods(cls, value: Any) -> Any:
        """`guidance: {guidance_scale: 3}` is about the method that stands there by default."""
        if not isinstance(value, Mapping):
            return value
        with collected(""):
            _refuse_credentials(value, "")
        named = {
            name: {"name": field.default.name, **value[name]}
            for name, field in cls.model_fields.items()
            if isinstance(field.default, MethodSpec)
            and isinstance(value.get(name), Mapping)
            and "name" not in value[name]
        }
        return {**value, **named}


def _refuse_credentials(value: object, at: str) -> None:
    """Before a config is stored anywhere: in a folder, with a deployment, on a cluster.

    Raises:
        ConfigError: a text is a URL with a password, a key or a signature in it.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_credentials(item, f"{at}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_credentials(item, f"{at}.{index}".removeprefix("."))
    elif isinstance(value, str) and has_credentials(value):
        raise ConfigError(at, f"{value.partition('://')[0]}://...", WITHOUT_CREDENTIALS)


@contextmanager
def collected(*starts: str) -> Iterator[None]:
    """Makes a ConfigError one of pydantic's, which go on to the next field: all are reported.

    Args:
        starts: pydantic's own location takes the place of the first of these that the error's
            field starts with.
    """
    try:
        yield
    except ConfigError as error:
        start = next((s for s in starts if f"{error.field}.".startswith(f"{s}.")), "")
        below = error.field[len(start) :].removeprefix(".")
        facts = {"below": below, "value": error.value, "allowed": error.allowed}
        raise PydanticCustomError(MISTAKE, "expected {allowed}", facts) from error


def plain_fields(built: object, at: str) -> dict[str, JsonValue]:
    """A frozen dataclass as plain data: every field, so that equal settings are equal data.

    Raises:
        ConfigError: a number that JSON cannot hold.
    """
    fields: dict[str, JsonValue] = TypeAdapter(type(built)).dump_python(built, mode="json")
    for name, value in fields.items():
        try:
            canonical_json(value)
        except ValueError as error:
            raise ConfigError(f"{at}.{name}", value, "a finite number") from error
    return fields


def checked_fields(cls: type[T], params: Mapping[str, JsonValue], at: str) -> dict[str, JsonValue]:
    """All fields of a frozen dataclass as plain data, from some of them.

    Raises:
        ConfigError: unknown field, or value out of range.
    """
    return plain_fields(from_params(cls, params, at), at)
