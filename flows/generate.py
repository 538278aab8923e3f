"""Real images in, synthetic images out: ingest, choose, plan, generate, judge, commit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from flows.settings import FLOW
from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.config.schema import BASELINE
from infra.jobs.dataset import Dataset, select
from infra.jobs.inspect import BackboneFacts, check_class_names
from infra.jobs.planning import HardImages, hard_images, needs_logits, plan_generation
from infra.jobs.train import TrainClassifier
from infra.storage.runs import RunStore
from tasks.fit import fit_on
from tasks.generate import generate_all
from tasks.ingest import ingest_all
from tasks.inspect import inspect
from tasks.judge import commit, judge_all
from tasks.runtime import open_runtime
from tasks.train import train_all, train_logits, training_job


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """What a generation leaves behind, beside the files in its store.

    Attributes:
        dataset: the real images.
        hard: those that were multiplied.
        backbone: what is known of the network.
        shards: name, size and cost of every shard.
    """

    dataset: Dataset
    hard: HardImages
    backbone: BackboneFacts
    shards: list[dict[str, Any]]


def generate_images(config: RunConfig) -> Generated:
    """Everything up to the committed manifest."""
    selection = select(config.data)
    facts = inspect(config, config.generation.backbone) if config.generation.backbone else None
    dataset = ingest_all(config.data, config.shards, selection)
    classifier = _real_classifier(config, dataset)
    logits = train_logits(classifier) if classifier and needs_logits(config) else None
    hard = hard_images(config, dataset, logits)
    backbone = config.generation.backbone
    if backbone is None:
        backbone = MethodSpec(name="pixel_unet", params={"path": fit_on(config)})
    facts = facts or inspect(config, backbone)
    check_class_names(facts, hard.class_names())
    plan = plan_generation(config, dataset, hard, facts.fingerprint)
    shards = generate_all(config, dataset, plan, backbone)
    names = [shard["ref"]["name"] for shard in shards]
    judged = judge_all(config, dataset, names, classifier.classifier if classifier else None)
    commit(dataset, names, judged)
    return Generated(dataset=dataset, hard=hard, backbone=facts, shards=shards)


def _real_classifier(config: RunConfig, dataset: Dataset) -> TrainClassifier | None:
    """The baseline's first classifier, where a judge or the hard set needs it."""
    if not config.filter.judges and not needs_logits(config):
        return None
    job = training_job(config, dataset, (BASELINE, config.arms()[BASELINE]), 0, frozenset())
    train_all([job], "train judge")
    return job


@flow(name="generate", **FLOW)
def generate(config: RunConfig, output: str) -> dict[str, int]:
    """Grows the data set: real images in, shards and a manifest of synthetic images out."""
    with open_runtime(config.workers, RunStore(Path(output))):
        made = generate_images(config)
    return {"images": sum(shard["ref"]["num_rows"] for shard in made.shards)}
