"""Trains a generator on a data set and publishes it as a folder that any run can name."""

from prefect import flow

from flows.settings import FLOW
from infra.config import FitConfig
from infra.jobs.dataset import select
from infra.storage.runs import run_store
from tasks.fit import fit_published
from tasks.ingest import ingest_all
from tasks.runtime import open_runtime


@flow(name="fit-generator", **FLOW)
def fit_generator(config: FitConfig, output: str) -> str:
    """Ingests, trains, measures what a classifier learns from the same data; returns the folder."""
    with open_runtime(config.workers, run_store(output)):
        dataset = ingest_all(config.data, config.shards, select(config.data))
        return fit_published(config, dataset)
