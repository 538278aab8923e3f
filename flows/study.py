"""Every arm with every way of balancing, over seeds: one table."""

from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.run import whole_run
from flows.settings import FLOW
from infra.config import RunConfig
from infra.config.preset import Preset, whole_config
from infra.config.schema import studied


@flow(name="study", **FLOW)
def study(
    config: Preset | RunConfig,
    output: str | None = None,
    overlap: bool = False,
    update: bool = False,
    reuse: Sequence[str] = (),
    secrets: str | None = None,
) -> Any:
    """Trains the grid of `study` and writes its table; images and finished cells are reused.

    Args:
        config: a preset with changes, or a whole config; without a section `study`, the usual
            treatments.
        output: folder or URL of the run; default: runs/NAME.
        overlap: start trainings as soon as the levels they begin with are there; same result.
        update: accept the output of another config; what both share is reused.
        reuse: outputs of other runs whose images may be copied.
        secrets: a Secret block: a JSON object of environment variables.
    """
    return whole_run(studied(whole_config(config)), output, overlap, update, reuse, secrets)
