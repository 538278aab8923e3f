"""The comparison: every arm of a run, with every seed, on the same test images."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.generate import Generated, generate_images
from flows.settings import FLOW
from infra.config import RunConfig
from infra.config.schema import BASELINE
from infra.storage.runs import RunStore
from tasks.runtime import open_runtime
from tasks.train import train_all, training_job


def train_arms(config: RunConfig, made: Generated) -> dict[str, list[dict[str, Any]]]:
    """Arm to the results of its seeds."""
    jobs = [
        training_job(
            config, made.dataset, arm, seed, frozenset() if arm[0] == BASELINE else made.hard.keys()
        )
        for seed in range(config.training.seeds)
        for arm in config.arms().items()
    ]
    results = train_all(jobs, "train classifiers")
    return {name: [result for result in results if result["arm"] == name] for name in config.arms()}


@flow(name="train", **FLOW)
def train(config: RunConfig, output: str) -> dict[str, int]:
    """Trains all arms on what `generate` made, generating what is missing first."""
    with open_runtime(config.workers, RunStore(Path(output))):
        results = train_arms(config, generate_images(config))
    return {"classifiers": sum(len(seeds) for seeds in results.values())}
