"""Secrets of a run: environment variables from a Prefect block. Knows the block's name only.

The values reach the driver's environment and, by argument, the workers. They are in no parameter,
result, cache key or log.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect.blocks.system import Secret

from generators.errors import ConfigError
from infra.workers.environment import adopt

ALLOWED = "the name of a Secret block whose value is a JSON object of environment variables"


@contextmanager
def secret_environment(block: str | None) -> Iterator[Mapping[str, str]]:
    """The variables of a block, set while the flow's block runs; they win over others.

    Raises:
        ConfigError: no such block, or its value is something else. Never shows the value.
    """
    variables = _load(block) if block else {}
    before = {name: os.environ.get(name) for name in variables}
    adopt(variables)
    try:
        yield variables
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _load(block: str) -> dict[str, str]:
    try:
        found = Secret.load(block)
    except ValueError as error:
        raise ConfigError("secrets", block, f"{ALLOWED}; there is no such block") from error
    assert isinstance(found, Secret)
    value = found.get()
    if not isinstance(value, dict) or not all(isinstance(v, str | int) for v in value.values()):
        raise ConfigError("secrets", block, f"{ALLOWED}; its value is something else")
    return {str(name): str(item) for name, item in value.items()}
