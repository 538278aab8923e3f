"""The main job: grow the data set, train with and without it, compare, report."""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.settings import FLOW, completed
from flows.train import generate_and_train
from infra.config import RunConfig
from infra.config.preset import Preset
from infra.jobs.opening import open_run
from infra.report.saved import RunOutcome
from tasks.agenda import open_agenda
from tasks.arms import Arms
from tasks.lasting_output import lasting_output
from tasks.report import report
from tasks.runtime import command, open_runtime
from tasks.secret_environment import secret_environment


@flow(name="run", **FLOW)
def run(
    config: Preset | RunConfig,
    output: str | None = None,
    overlap: bool = False,
    update: bool = False,
    reuse: Sequence[str] = (),
    secrets: str | None = None,
) -> Any:
    """Grows a long-tailed data set and trains a better classifier; returns the numbers.

    A run that is finished does nothing.

    Args:
        config: a preset with changes, or a whole config.
        output: folder or URL of the run; default: runs/NAME.
        overlap: start trainings as soon as the levels they begin with are there; same result.
        update: accept the output of another config; what both share is reused.
        reuse: outputs of other runs whose images may be copied.
        secrets: a Secret block: a JSON object of environment variables.
    """
    return whole_run(config, output, overlap, update, reuse, secrets)


def whole_run(
    config: Preset | RunConfig,
    output: str | None,
    overlap: bool,
    update: bool,
    reuse: Sequence[str],
    secrets: str | None,
) -> Any:
    """The body of `run` and of `study`: images, all arms, report."""
    with (
        secret_environment(secrets) as environment,
        open_run(config, lasting_output(output), update=update, once=True) as opened,
    ):
        if opened.finished:
            message = f"{opened.store.root}: this run is finished; nothing was done again"
            return Completed(message=message, data=opened.finished)
        with (
            open_runtime(opened.config.workers, opened.store, reuse, environment),
            open_agenda(overlap=overlap) as agenda,
        ):
            arms = Arms(opened.config)
            made = generate_and_train(opened.config, agenda, arms)
            outcome = RunOutcome(
                command=command(),
                arms=arms.results(),
                shards=made.generation.costs(),
                card=made.backbone.card,
                price_per_hour=opened.config.workers.price_per_hour,
            )
            return completed(opened.store, report(outcome))
