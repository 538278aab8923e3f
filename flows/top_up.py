"""Follows a data set that grows: new real images in, what the tail still lacks is generated."""

from functools import partial
from typing import Any

from prefect import flow

from curriculum.schedules.base import GenerationSchedule
from flows.generate import find_hard, real_classifier
from flows.settings import FLOW, completed
from generators.errors import ConfigError
from infra.config import RunConfig
from infra.config.preset import Preset
from infra.errors import EmptyHardSet
from infra.jobs.dataset import Dataset
from infra.jobs.inspect import BackboneFacts, check_class_names
from infra.jobs.levels import PlannedLevel
from infra.jobs.opening import open_run
from infra.jobs.planning import needs_logits, plan_generation, schedule_of
from infra.jobs.top_up import Budget, Spending, TopUp, choose
from infra.storage.versions import keep_version
from tasks.agenda import Agenda, open_agenda
from tasks.closed_loop import measured_gains
from tasks.gather import gather
from tasks.generate import open_generation
from tasks.inspect import inspect
from tasks.judge import Judging
from tasks.lasting_output import lasting_output
from tasks.runtime import open_runtime, runtime
from tasks.secret_environment import secret_environment
from tasks.settings import opaque
from tasks.top_up import commit_version, ingest_new


@flow(name="top-up", **FLOW)
def top_up(
    config: Preset | RunConfig,
    output: str | None = None,
    budget_images: int | None = None,
    budget_evaluations: int | None = None,
    update: bool = False,
    secrets: str | None = None,
) -> Any:
    """Takes in new real images and generates what is missing, the rarest classes first.

    Commits a new version of the manifest; without anything new, nothing is done. Where the
    curriculum's schedule directs the generation, the trainings of the version before decide what is
    made, and the new version is trained on.

    Args:
        config: a preset with changes, or a whole config; needs a pretrained backbone.
        output: folder or URL of the data set; default: runs/NAME.
        budget_images: most images to generate now; default: all that are missing.
        budget_evaluations: most model evaluations to spend now.
        update: accept the output of another config; what both share is reused.
        secrets: a Secret block: a JSON object of environment variables.
    """
    budget = Budget(images=budget_images, evaluations=budget_evaluations)
    with (
        secret_environment(secrets) as environment,
        open_run(config, lasting_output(output), update=update, growing=True) as opened,
        open_runtime(opened.config.workers, opened.store, environment=environment),
        open_agenda(overlap=False) as agenda,
    ):
        found = top_up_images(opened.config, agenda, budget)
        message = f"{opened.store.root}: {described(found)}"
        runtime().board.say(message)
        return completed(opened.store, found, message)


def top_up_images(config: RunConfig, agenda: Agenda, budget: Budget) -> dict[str, int]:
    """Everything up to the committed version; how many images are new and still missing.

    Raises:
        ConfigError: the generator is one that would be another with every new image, or there is
            none.
    """
    backbone = config.generation.backbone
    if not config.generation.levels:
        raise ConfigError("generation.levels", [], "at least one level: nothing is generated")
    if backbone is None:
        allowed = "none: a generator trained on the images changes with them; give a `backbone`"
        raise ConfigError("generation.fit", config.generation.fit, allowed)
    facts = inspect(config, backbone)
    dataset = ingest_new(config)
    classifier = real_classifier(config, dataset, agenda) if needs_logits(config) else None
    try:
        hard = find_hard(config, dataset, classifier, agenda)
    except EmptyHardSet:
        return {"images": 0, "missing": 0, "version": keep_version(runtime().store)}
    check_class_names(facts, hard.class_names())
    plan = plan_generation(config, dataset, hard, facts.fingerprint)
    spending, schedule = Spending(budget=budget), schedule_of(config.curriculum)
    measure = partial(measured_gains, config, dataset, hard, sorted(plan.levels()), agenda)
    if isinstance(schedule, GenerationSchedule):
        spending = Spending(budget=budget, schedule=schedule, gains=measure())
    top_up = choose(config, dataset, hard, plan, spending, runtime().store)
    if top_up.changed:
        version = made(config, dataset, facts, top_up, agenda)
    else:
        version = keep_version(runtime().store)
    if spending.schedule:
        measure()
    left = top_up.missing - len(top_up.plan)
    return {"images": len(top_up.plan), "missing": left, "version": version}


def made(
    config: RunConfig, dataset: Dataset, facts: BackboneFacts, top_up: TopUp, agenda: Agenda
) -> int:
    """Generates and judges what was chosen; the number of the version that has it."""
    levels: list[PlannedLevel] = []
    if len(top_up.plan):
        assert config.generation.backbone is not None
        classifier = real_classifier(config, dataset, agenda)
        generation = open_generation(
            config, dataset, top_up.plan, config.generation.backbone, facts.batch_size
        )
        weights = classifier.classifier if classifier else None
        judging = Judging(config=config, dataset=dataset, generation=generation, classifier=weights)
        agenda.add(generation.units())
        agenda.add(judging.settled())
        levels = judging.levels()
    names, store = opaque(dataset.class_names), opaque(runtime().store)
    (version,) = gather([commit_version.submit(opaque(top_up), opaque(levels), names, store)])
    return int(version)


def described(found: dict[str, int]) -> str:
    """What a top-up has done, in a line."""
    left = f"; {found['missing']:,} are missing still" if found["missing"] else ""
    if found["images"]:
        return f"{found['images']:,} new images, manifest version {found['version']}{left}"
    return f"nothing new, manifest version {found['version']}{left}"
