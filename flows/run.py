"""The main job: grow the data set, train with and without it, compare, report."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.generate import generate_images
from flows.settings import FLOW
from flows.train import train_arms
from infra.config import RunConfig
from infra.report.saved import RunOutcome
from infra.storage.runs import RunStore
from tasks.report import report
from tasks.runtime import open_runtime


@flow(name="run", **FLOW)
def run(config: RunConfig, output: str, command: str = "") -> dict[str, Any]:
    """Grows a long-tailed data set and trains a better classifier; returns the numbers."""
    with open_runtime(config.workers, RunStore(Path(output))):
        made = generate_images(config)
        results = train_arms(config, made)
        outcome = RunOutcome(
            command=command, arms=results, shards=made.shards, card=made.backbone.card
        )
        return report(outcome)
