"""Where a deployment may write: workers run flows in folders that are then removed."""

from pathlib import Path

from prefect.runtime import deployment

from generators.errors import ConfigError
from generators.places import place


def lasting_output(output: str | None) -> str | None:
    """An output, as it is given.

    Raises:
        ConfigError: in a deployment, one that depends on the folder the run is started in.
    """
    if deployment.id is None:
        return output
    where = place(output, "output") if output else Path()
    if isinstance(where, Path) and not where.is_absolute():
        allowed = "an absolute path or a URL: a worker starts runs in a folder that is then removed"
        raise ConfigError("output", output, allowed)
    return output
