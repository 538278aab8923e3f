"""The configuration: schema, presets and overrides. Knows the methods by name only."""

from infra.config.load import load_config, load_fit_config, preset_names
from infra.config.schema import FitConfig, RunConfig
from infra.config.training import ArmConfig
from infra.config.workers import WorkersConfig

__all__ = [
    "ArmConfig",
    "FitConfig",
    "RunConfig",
    "WorkersConfig",
    "load_config",
    "load_fit_config",
    "preset_names",
]
