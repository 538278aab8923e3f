"""A pydantic field that holds a method: `cfg`, or `{name: cfg, guidance_scale: 2}`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from generators.errors import ConfigError
from generators.registry import JsonValue, MethodSpec, build, names


@dataclass(frozen=True)
class MethodField:
    """Annotation of a `MethodSpec` field: parses, and checks name and parameters at once.

    Attributes:
        family: where the method is looked up.
        at: dotted path of the field, for errors.
    """

    family: str
    at: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Plain data in, plain data out."""
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(MethodSpec.as_json),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A form field: one of the names, or an object with a name."""
        return {
            "title": self.at,
            "anyOf": [
                {"type": "string", "enum": list(names(self.family))},
                {
                    "type": "object",
                    "properties": {"name": {"type": "string", "enum": list(names(self.family))}},
                    "required": ["name"],
                    "additionalProperties": True,
                },
            ],
        }

    def parse(self, value: JsonValue) -> MethodSpec:
        """A checked spec from a name, a mapping or a spec."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, MethodSpec):
            value = value.as_json()
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ConfigError(self.at, value, "a method name, or a mapping with a `name`")
        params = {key: item for key, item in value.items() if key != "name"}
        spec = MethodSpec(name=value["name"], params=params)
        build(self.family, spec, self.at)
        return spec


Source = Annotated[MethodSpec, MethodField("source", "data.source")]
Profile = Annotated[MethodSpec, MethodField("profile", "data.long_tail.profile")]
HardSetMethod = Annotated[MethodSpec, MethodField("hard_set", "hard_set")]
BackboneMethod = Annotated[MethodSpec, MethodField("backbone", "generation.backbone")]
GuidanceMethod = Annotated[MethodSpec, MethodField("guidance", "generation.guidance")]
SamplerMethod = Annotated[MethodSpec, MethodField("sampler", "generation.sampler")]
JudgeMethod = Annotated[MethodSpec, MethodField("filter", "filter.judges")]
ScheduleMethod = Annotated[MethodSpec, MethodField("schedule", "schedule")]
LossMethod = Annotated[MethodSpec, MethodField("loss", "loss")]
