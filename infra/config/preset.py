"""A config that ships with the package, as a parameter of a flow: its name and what is changed."""

import json
from typing import Annotated

from pydantic import Field, field_validator

from generators.errors import ConfigError, one_of
from generators.registry import JsonValue
from infra.config.load import override, preset_names, read_preset, validate
from infra.config.schema import RunConfig
from infra.config.section import Section, collected


class Preset(Section):
    """A config that ships with the package; short, and enough to try a deployment."""

    preset: Annotated[
        str,
        Field(
            description="which one",
            json_schema_extra={"enum": [*preset_names(RunConfig)]},
        ),
    ]
    changes: dict[str, JsonValue] = Field(
        {}, description='values by dotted path, e.g. {"training.seeds": 3}'
    )

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str) -> str:
        known = preset_names(RunConfig)
        with collected("preset"):
            if value not in known:
                raise ConfigError("preset", value, one_of(known, value))
        return value

    def config(self) -> RunConfig:
        """The whole config.

        Raises:
            UserError: the changes are not allowed.
        """
        assignments = [f"{path}={json.dumps(value)}" for path, value in self.changes.items()]
        return validate(RunConfig, override(read_preset(self.preset), assignments))


def whole_config(config: RunConfig | Preset) -> RunConfig:
    """A config, from itself or from a preset.

    Raises:
        UserError: the changes of a preset are not allowed.
    """
    return config.config() if isinstance(config, Preset) else config
