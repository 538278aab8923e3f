"""A pydantic field that holds a method: `cfg`, or `{name: cfg, guidance_scale: 2}`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from generators.errors import ConfigError
from generators.registry import JsonValue, MethodSpec, build, names
from infra.config.section import collected, plain_fields


@dataclass(frozen=True)
class MethodField:
    """Annotation of a `MethodSpec` field: parses, and checks name and parameters at once.

    The spec it gives has all parameters, defaults included: two spellings of the same settings are
    equal, and what a default was at the time stands in config, requests and manifest.

    Attributes:
        family: where the method is looked up.
    """

    family: str

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
        """A form field: one of the names, an object with a name, or a list of guidance."""
        name: dict[str, Any] = {"type": "string", "enum": list(names(self.family))}
        more: list[dict[str, Any]] = []
        if self.family == "guidance":
            variant = {"type": "string", "pattern": r"^diffusers:\w+$"}
            more = [variant, {"type": "array", "minItems": 1}]
        return {
            "title": self.family,
            "anyOf": [
                name,
                *more,
                {
                    "type": "object",
                    "properties": {"name": {"anyOf": [name, *more[:1]]}},
                    "required": ["name"],
                    "additionalProperties": True,
                },
            ],
        }

    def parse(self, value: JsonValue) -> MethodSpec:
        """A checked spec from a name, a mapping or a spec; a list is guidance `together`.

        `name:variant` becomes `name`, with the variant among its parameters.
        """
        if isinstance(value, list) and self.family == "guidance":
            methods = [self.parse(item).as_json() for item in value]
            value = {"name": "together", "methods": methods}
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, MethodSpec):
            value = value.as_json()
        name = value.get("name") if isinstance(value, Mapping) else None
        if not isinstance(name, str):
            with collected(self.family):
                raise ConfigError(
                    self.family, value, "the name of a method, or a mapping with a `name`"
                )
        given = {str(key): item for key, item in value.items() if key != "name"}
        # A method's own checks name the method (`fixed_stages.levels`), not the field.
        with collected(self.family, name):
            built = build(self.family, MethodSpec(name=name, params=given), self.family)
            plain = plain_fields(built, self.family)
            return MethodSpec(name=name.partition(":")[0], params=plain)  # a variant is in params


Source = Annotated[MethodSpec, MethodField("source")]
Profile = Annotated[MethodSpec, MethodField("profile")]
HardSetMethod = Annotated[MethodSpec, MethodField("hard_set")]
BackboneMethod = Annotated[MethodSpec, MethodField("backbone")]
GuidanceMethod = Annotated[MethodSpec, MethodField("guidance")]
SamplerMethod = Annotated[MethodSpec, MethodField("sampler")]
JudgeMethod = Annotated[MethodSpec, MethodField("filter")]
ScheduleMethod = Annotated[MethodSpec, MethodField("schedule")]
LossMethod = Annotated[MethodSpec, MethodField("loss")]
SamplingMethod = Annotated[MethodSpec, MethodField("sampling")]
MixingMethod = Annotated[MethodSpec, MethodField("mixing")]
AugmentationMethod = Annotated[MethodSpec, MethodField("augmentation")]
RebalancerMethod = Annotated[MethodSpec, MethodField("rebalancer")]
