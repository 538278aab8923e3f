"""Real images in, synthetic images out: ingest, choose, plan, generate, judge, commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow

from flows.settings import FLOW, completed
from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.config.preset import Preset
from infra.config.schema import BASELINE
from infra.jobs.classifier_job import TrainClassifier
from infra.jobs.dataset import Dataset, select
from infra.jobs.inspect import NO_BACKBONE, BackboneFacts, check_class_names
from infra.jobs.opening import open_run
from infra.jobs.planning import HardImages, hard_images, needs_logits, plan_generation
from tasks.agenda import Agenda, open_agenda
from tasks.arms import Arms
from tasks.fit import fit_on
from tasks.generate import Generation, open_generation
from tasks.ingest import ingest_all
from tasks.inspect import inspect
from tasks.judge import Judging
from tasks.lasting_output import lasting_output
from tasks.runtime import open_runtime, open_stage
from tasks.secret_environment import secret_environment
from tasks.train import train_logits, trained_mark, training_job, training_unit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """What a generation leaves behind, or is still at work on, beside the files in its store.

    Attributes:
        dataset: the real images.
        hard: those that were multiplied.
        backbone: what is known of the network, if there is one.
        generation: the shards.
        judging: of the shards.
    """

    dataset: Dataset
    hard: HardImages
    backbone: BackboneFacts
    generation: Generation
    judging: Judging


def generate_images(config: RunConfig, agenda: Agenda, arms: Arms | None = None) -> Generated:
    """Everything up to the committed manifest; with overlap, that is then on the agenda.

    Arms that need no synthetic image are trained from where the hard images are known.
    """
    selection = select(config.data)
    names, backbone = selection.images.class_names, config.generation.backbone
    facts = inspect(config, backbone, names) if backbone else NO_BACKBONE
    dataset = ingest_all(config.data, config.shards, selection)
    classifier = real_classifier(config, dataset, agenda)
    hard = find_hard(config, dataset, classifier, agenda)
    if arms and agenda.overlap:
        agenda.add(arms.on_real_images(dataset, hard.keys()))
    if classifier:
        agenda.reach(trained_mark(classifier))
    if config.generation.fit is not None:
        backbone = MethodSpec(name="pixel_unet", params={"path": fit_on(config)})
        facts = inspect(config, backbone, names)
    check_class_names(facts, hard.class_names())
    plan = plan_generation(config, dataset, hard, facts.fingerprint)
    generation = open_generation(config, dataset, plan, backbone, facts.batch_size)
    weights = classifier.classifier if classifier else None
    judging = Judging(config=config, dataset=dataset, generation=generation, classifier=weights)
    agenda.add(generation.units())
    agenda.add(judging.units())
    return Generated(
        dataset=dataset, hard=hard, backbone=facts, generation=generation, judging=judging
    )


def real_classifier(config: RunConfig, dataset: Dataset, agenda: Agenda) -> TrainClassifier | None:
    """The baseline's first classifier, where a judge or the hard set needs it."""
    if not config.filter.judges and not needs_logits(config):
        return None
    job = training_job(config, dataset, (BASELINE, config.arms()[BASELINE]), 0, frozenset())
    shown = open_stage("train judge", job.train.epochs, "epochs")
    agenda.add([training_unit(job, shown, patient=False)])
    return job


def find_hard(
    config: RunConfig, dataset: Dataset, classifier: TrainClassifier | None, agenda: Agenda
) -> HardImages:
    """The images that are multiplied; by the classifier's logits, where the method needs them."""
    if not needs_logits(config):
        return hard_images(config, dataset, None)
    assert classifier is not None
    agenda.reach(trained_mark(classifier))
    return hard_images(config, dataset, train_logits(classifier))


@flow(name="generate", **FLOW)
def generate(
    config: Preset | RunConfig,
    output: str | None = None,
    update: bool = False,
    reuse: Sequence[str] = (),
    secrets: str | None = None,
) -> Any:
    """Grows the data set: real images in, shards and a manifest of synthetic images out.

    Args:
        config: a preset with changes, or a whole config.
        output: folder or URL of the run; default: runs/NAME.
        update: accept the output of another config; what both share is reused.
        reuse: outputs of other runs whose images may be copied.
        secrets: a Secret block: a JSON object of environment variables.
    """
    with (
        secret_environment(secrets) as environment,
        open_run(config, lasting_output(output), update=update) as opened,
        open_runtime(opened.config.workers, opened.store, reuse, environment),
        open_agenda(overlap=False) as agenda,
    ):
        made = generate_images(opened.config, agenda)
    return completed(opened.store, {"images": len(made.generation.plan)})
