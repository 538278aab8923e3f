"""The comparison: every arm of a run, with every seed, on the same test images."""

from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.generate import Generated, generate_images
from flows.settings import FLOW, completed
from infra.config import RunConfig
from infra.config.preset import Preset
from infra.jobs.opening import open_run
from tasks.agenda import Agenda, open_agenda
from tasks.arms import Arms
from tasks.lasting_output import lasting_output
from tasks.runtime import open_runtime
from tasks.secret_environment import secret_environment


def generate_and_train(config: RunConfig, agenda: Agenda, arms: Arms) -> Generated:
    """Synthetic images, then all arms; with overlap, an arm starts when its first level is there.

    The result is the same: an arm's data are identified by what they are made from, and an epoch
    depends on its own levels alone.
    """
    made = generate_images(config, agenda, arms)
    agenda.add(arms.units(made.dataset, made.hard.keys(), made.judging.levels()))
    agenda.finish()
    return made


@flow(name="train", **FLOW)
def train(
    config: Preset | RunConfig,
    output: str | None = None,
    overlap: bool = False,
    update: bool = False,
    reuse: Sequence[str] = (),
    secrets: str | None = None,
) -> Any:
    """Trains all arms on what `generate` made, generating what is missing first.

    Args:
        config: a preset with changes, or a whole config.
        output: folder or URL of the run; default: runs/NAME.
        overlap: start trainings as soon as the levels they begin with are there; same result.
        update: accept the output of another config; what both share is reused.
        reuse: outputs of other runs whose images may be copied.
        secrets: a Secret block: a JSON object of environment variables.
    """
    with (
        secret_environment(secrets) as environment,
        open_run(config, lasting_output(output), update=update) as opened,
        open_runtime(opened.config.workers, opened.store, reuse, environment),
        open_agenda(overlap=overlap) as agenda,
    ):
        arms = Arms(opened.config)
        generate_and_train(opened.config, agenda, arms)
        trained = sum(len(seeds) for seeds in arms.results().values())
        return completed(opened.store, {"classifiers": trained})
