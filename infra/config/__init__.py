"""The configuration: schema, presets and overrides. Knows the methods by name only."""

from infra.config.load import load_config, load_fit_config, preset_names
from infra.config.schema import FitConfig, RunConfig, WorkersConfig
from infra.config.training import ArmConfig

__all__ = [
    "ArmConfig",
    "FitConfig",
    "RunConfig",
    "WorkersConfig",
    "load_config",
    "load_fit_config",
    "preset_names",
]
