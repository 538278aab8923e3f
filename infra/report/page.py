"""What the page's template is filled with: every section as plain values and figures."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from generators.registry import JsonValue
from infra.config.schema import BASELINE, CURRICULUM, RunConfig
from infra.report import comparison_figures, image_figures, tables, wording
from infra.report.costs import image_costs
from infra.report.counts import fates, level_facts, score_columns, score_name
from infra.report.facts import RunFacts
from infra.report.strips import gallery
from infra.report.verdict import headline
from infra.storage.runs import RunStore

MACHINE = {"cpu": "CPU", "gpu": "GPU", "gpus": "GPUs", "os": "System"}

Items = list[tuple[str, str]]


def make_page(
    store: RunStore, facts: RunFacts, manifest: pa.Table, real: pa.Table
) -> dict[str, Any]:
    """The template's variables."""
    of_images, by_level = fates(manifest), level_facts(manifest)
    columns = score_columns(manifest)
    levels = [level.image_guidance for level in by_level]
    return {
        "name": facts.config.name,
        "headline": headline(facts),
        "cards": _cards(facts),
        "generates": bool(facts.config.generation.levels),
        "fates": of_images,
        "total_seconds": sum(stage.seconds for stage in facts.stages),
        "num_seeds": facts.num_seeds,
        "run_items": _run_items(facts, manifest, real),
        "machine": {MACHINE.get(name, name.capitalize()): v for name, v in facts.machine.items()},
        "versions": dict(facts.versions),
        "comparison": tables.comparison_table(facts),
        "gains": tables.gain_table(facts),
        "gain_figures": _gain_figures(facts),
        "classes": tables.class_table(facts, manifest),
        "classes_figure": comparison_figures.classes_figure(facts),
        "histogram": image_figures.histogram_figure(facts, manifest),
        "gallery": gallery(store, facts, manifest, real),
        "levels": by_level,
        "level_colors": tables.level_variables(levels),
        "score_names": {name: score_name(name).replace("_", " ") for name in columns},
        "matrix": tables.acceptance_matrix(facts, manifest),
        "acceptance": image_figures.acceptance_figure(by_level) if by_level else None,
        "score_figures": [
            (score_name(name).replace("_", " "), image_figures.score_figure(by_level, name, index))
            for index, name in enumerate(columns)
            if any(name in level.scores for level in by_level)
        ],
        "judges": [wording.method(judge, "filter") for judge in facts.config.filter.judges],
        "timelines": _timelines(facts),
        "learning": comparison_figures.learning_figure(facts),
        "generator": _generator(facts),
        "stages": tables.stage_table(facts.stages),
        "cost": facts.cost,
        "image_costs": image_costs(facts.cost, manifest) if facts.cost else None,
        "real_fates": fates(real),
        "rejected_real": tables.rejected_real(real),
        "command": facts.command,
        "config_hash": facts.config.fingerprint(),
        "config_yaml": config_yaml(facts.config),
    }


def config_yaml(config: RunConfig) -> str:
    """The full config, defaults included, as `discl run` reads it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _cards(facts: RunFacts) -> list[dict[str, str]]:
    """The headline numbers: metric, before, after, gain with interval, verdict."""
    versus = facts.versus(CURRICULUM)
    titles = {"few": "Few-shot classes", "all": "All test images", "macro_f1": "Macro F1"}
    return [
        {
            "title": title,
            "before": wording.number(versus[metric].baseline.mean),
            "after": wording.number(versus[metric].arm.mean),
            "gain": wording.signed(versus[metric].difference.mean),
            "interval": wording.interval(versus[metric].difference),
            "verdict": versus[metric].verdict,
        }
        for metric, title in titles.items()
        if metric in versus
    ]


def _run_items(facts: RunFacts, manifest: pa.Table, real: pa.Table) -> Items:
    """What ran, as (name, text)."""
    config = facts.config
    data, training = config.data, config.training
    splits = tables.split_counts(real)
    sizes = ", ".join(f"{wording.count(n)} {name}" for name, n in splits.items())
    shots = [str(shot) for shot in facts.shots]
    kinds = ", ".join(f"{shots.count(kind)} {kind}" for kind in ("many", "medium", "few"))
    tail = data.long_tail
    source = wording.method(data.source, "source")
    loss = wording.method(training.loss, "loss")
    items = [
        (
            "Data",
            f"{source}, {data.image_size}×{data.image_size} pixels",
        ),
        ("Images", sizes),
        ("Classes", f"{len(shots)}: {kinds}-shot"),
        (
            "Long tail",
            f"{wording.method(tail.profile)}, at most {tail.max_count} a class"
            if tail
            else "as the data has it",
        ),
        *_generation_items(config, manifest),
        ("Classifier", f"{training.model}, {loss}"),
        (
            "Training",
            f"{wording.count(training.epochs * training.updates_per_epoch)} updates of "
            f"{training.batch_size} images in {training.epochs} epochs, {training.optimizer}, "
            f"learning rate {training.learning_rate:g}",
        ),
        ("Seeds", f"{facts.num_seeds} of every arm"),
    ]
    return items


def _generation_items(config: RunConfig, manifest: pa.Table) -> Items:
    """How the synthetic images were made, if there are any."""
    generation, hard_set = config.generation, wording.method(config.hard_set)
    if not generation.levels:
        return [("Hard set", hard_set), ("Generator", "none: real images alone")]
    sources = len(pc.unique(manifest.column("source_key")))
    made = f"fitted to the run's own images ({wording.plain_items(generation.fit or {})})"
    if generation.backbone is not None:
        made = wording.method(generation.backbone)
    levels = ", ".join(str(level) for level in generation.levels)
    sampler = wording.method(generation.sampler, "sampler")
    judges = [wording.method(judge, "filter") for judge in config.filter.judges]
    return [
        ("Hard set", f"{hard_set}: {wording.count(sources)} images"),
        ("Generator", made),
        ("Generation", f"levels {levels}; {generation.num_inference_steps} steps"),
        ("Method", f"{sampler}, {' or '.join(map(wording.method, generation.guidances))}"),
        ("Judges", "; ".join(judges) or "none"),
    ]


def _gain_figures(facts: RunFacts) -> list[tuple[str, Any]]:
    titles = {"few": "Gain on few-shot classes", "all": "Gain on all test images"}
    measured = facts.versus(CURRICULUM)
    return [
        (title, comparison_figures.gains_figure(facts, metric))
        for metric, title in titles.items()
        if metric in measured
    ]


def _timelines(facts: RunFacts) -> list[tuple[str, str, Any]]:
    """(arm, what it is, ribbon); the curriculum first, the baseline left out."""
    arms = [CURRICULUM, *(arm for arm in facts.arms if arm not in (BASELINE, CURRICULUM))]
    described = facts.config.arms()
    return [
        (arm, wording.arm(described[arm]), image_figures.timeline_figure(facts, arm, index))
        for index, arm in enumerate(arms)
    ]


def _generator(facts: RunFacts) -> dict[str, JsonValue]:
    """What is known of the generator; missing facts are None."""
    card = facts.generator_card
    alone: Mapping[str, JsonValue] = card.get("knowledge_alone") or {}
    losses = card.get("losses") or []
    fit: Mapping[str, JsonValue] = card.get("fit") or {}
    measured_on = alone.get("measured_on")
    if isinstance(measured_on, Mapping):
        measured_on = wording.plain_items(measured_on)
    items = {
        "Trained on": card.get("images") and f"{wording.count(card['images'])} images",
        "Training time": card.get("seconds") and wording.duration(card["seconds"]),
        "Seed": card.get("seed", fit.get("seed")),
        "Classes it knows": ", ".join(map(str, card.get("class_names") or ())),
    }
    return {
        "is_fitted": facts.config.generation.fit is not None,
        "knowledge": card.get("knowledge") or "",
        "alone": alone.get("accuracy"),
        "alone_on": measured_on,
        "alone_images": alone.get("images"),
        "baseline": facts.versus(CURRICULUM)["all"].baseline.mean,
        "curriculum": facts.versus(CURRICULUM)["all"].arm.mean,
        "items": [(name, str(text)) for name, text in items.items() if text not in (None, "")],
        "loss": image_figures.loss_figure(losses) if len(losses) > 1 else None,
    }
