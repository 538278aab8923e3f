"""The comparison: every arm of a run, with every seed, on the same test images."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.generate import Generated, generate_images
from flows.settings import FLOW
from infra.config import RunConfig
from infra.storage.runs import RunStore
from tasks.agenda import Agenda, open_agenda
from tasks.arms import Arms
from tasks.runtime import open_runtime


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
    config: RunConfig, output: str, overlap: bool = False, reuse: Sequence[str] = ()
) -> dict[str, int]:
    """Trains all arms on what `generate` made, generating what is missing first."""
    with (
        open_runtime(config.workers, RunStore(Path(output)), reuse),
        open_agenda(overlap=overlap) as agenda,
    ):
        arms = Arms(config)
        generate_and_train(config, agenda, arms)
        return {"classifiers": sum(len(seeds) for seeds in arms.results().values())}
