"""The main job: grow the data set, train with and without it, compare, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows.settings import FLOW
from flows.train import generate_and_train
from infra.config import RunConfig
from infra.report.saved import RunOutcome
from infra.storage.runs import RunStore
from tasks.agenda import open_agenda
from tasks.arms import Arms
from tasks.report import report
from tasks.runtime import open_runtime


@flow(name="run", **FLOW)
def run(
    config: RunConfig,
    output: str,
    command: str = "",
    overlap: bool = False,
    reuse: Sequence[str] = (),
) -> dict[str, Any]:
    """Grows a long-tailed data set and trains a better classifier; returns the numbers."""
    with (
        open_runtime(config.workers, RunStore(Path(output)), reuse),
        open_agenda(overlap=overlap) as agenda,
    ):
        arms = Arms(config)
        made = generate_and_train(config, agenda, arms)
        outcome = RunOutcome(
            command=command,
            arms=arms.results(),
            shards=made.generation.costs(),
            card=made.backbone.card,
        )
        return report(outcome)
