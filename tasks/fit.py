"""Trains a generator on the images of a store."""

from dataclasses import asdict
from typing import Any

from prefect import task

from generators.fit_spec import FitSpec
from generators.places import file_exists
from generators.registry import JsonValue, MethodSpec, content_hash, from_params
from infra.config import ArmConfig, FitConfig, RunConfig
from infra.jobs.classifier_job import train_spec
from infra.jobs.dataset import Dataset
from infra.jobs.fit import FitGenerator, fit_folder, fit_generator
from infra.jobs.transfer import TransferJob, measure_transfer
from infra.storage.shards import file_sha256
from tasks.gather import gather
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died


@task(
    name="fit-generator",
    cache_key_fn=lambda _, parameters: (
        "fit-" + content_hash([asdict(parameters["job"].spec), parameters["job"].data_hash])
    ),
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def fit(job: FitGenerator) -> str:
    """Trains one generator; returns its folder."""
    return str(run_job(fit_generator, job))


@task(name="measure-transfer", retry_condition_fn=worker_died, **RETRIED)
def transfer(job: TransferJob) -> dict[str, Any]:
    """Accuracy elsewhere of a classifier trained on the generator's data."""
    return run_job(measure_transfer, job)


def fit_one(job: FitGenerator) -> str:
    """Trains the generator, unless it is there."""
    finished = file_exists(job.folder / "card.json")
    with stage("fit generator", job.spec.steps, "steps"):
        (folder,) = gather(
            [
                fit.with_options(
                    retries=runtime().workers.retries, refresh_cache=not finished
                ).submit(opaque(job))
            ]
        )
    return str(folder)


def fit_on(config: RunConfig) -> str:
    """A generator trained on the run's own real images; returns its folder."""
    store = runtime().store
    spec = from_params(FitSpec, config.generation.fit or {}, "generation.fit")
    data_hash = file_sha256(store.real_manifest)
    knowledge = "nothing beyond this run's own real training images"
    return fit_one(
        FitGenerator(
            spec=spec,
            data=config.data,
            data_hash=data_hash,
            store=store,
            folder=fit_folder(store, spec, data_hash),
            facts={"knowledge": knowledge},
        )
    )


def fit_published(config: FitConfig, dataset: Dataset) -> str:
    """A generator with its card, measured; returns its folder."""
    store = runtime().store
    facts: dict[str, JsonValue] = {"name": config.name, "knowledge": config.knowledge}
    if config.transfer is not None:
        facts["knowledge_alone"] = transfer_accuracy(config, dataset)
    return fit_one(
        FitGenerator(
            spec=from_params(FitSpec, config.fit, "fit"),
            data=config.data,
            data_hash=file_sha256(store.real_manifest),
            store=store,
            folder=store.root / config.name,
            facts=facts,
        )
    )


def transfer_accuracy(config: FitConfig, dataset: Dataset) -> dict[str, JsonValue]:
    """Accuracy, on another data set, of a classifier trained on the generator's data alone."""
    assert config.transfer is not None
    store = runtime().store
    job = TransferJob(
        train=train_spec(
            config.training,
            config.data,
            ArmConfig(schedule=MethodSpec(name="none")),
            len(dataset.class_names),
            seed=0,
        ),
        data=config.data,
        store=store,
        transfer=config.transfer,
    )
    with stage("train on its data alone", job.train.epochs, "epochs"):
        (measured,) = gather([transfer.submit(opaque(job))])
    found: dict[str, JsonValue] = measured
    return found
