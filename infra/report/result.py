"""The numbers of a run as plain data: `result.json`. Knows nothing of the page beside it."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from curriculum.compare import Comparison, Estimate, compare_classes, estimate
from generators.registry import JsonValue
from infra.config.schema import BASELINE, CURRICULUM
from infra.report.costs import image_costs
from infra.report.counts import accepted_by_class, fates, level_facts, score_name
from infra.report.facts import METRICS, RunFacts
from infra.report.schema import SCHEMA_VERSION

NOT_MEASURED: Mapping[str, JsonValue] = {"mean": None, "ci95": None, "verdict": "not measured"}


def make_result(facts: RunFacts, manifest: pa.Table, real: pa.Table) -> dict[str, JsonValue]:
    """The result of a run, as `schema.RESULT_SCHEMA` documents it.

    Args:
        facts: of the run.
        manifest: a row per requested synthetic image.
        real: a row per real image.
    """
    arms = {name: _arm(facts, name) for name in facts.arms}
    others = [name for name in facts.arms if name not in (BASELINE, CURRICULUM)]
    of_images = fates(manifest)
    of_real = fates(real)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": facts.config.name,
        "config_hash": facts.config.fingerprint(),
        "command": facts.command,
        "baseline": arms[BASELINE]["mean"],
        "curriculum": arms[CURRICULUM]["mean"],
        "arms": arms,
        "gain": _differences(facts.versus(CURRICULUM)),
        "gains": {
            name: _differences(facts.versus(name)) for name in facts.arms if name != BASELINE
        },
        "curriculum_over": {name: _differences(facts.versus(CURRICULUM, name)) for name in others},
        "best_arm_few": best_arm(arms, "few"),
        "best_arm_all": best_arm(arms, "all"),
        "seeds": facts.num_seeds,
        "classes": _classes(facts, manifest),
        "images": {
            "requested": of_images.requested,
            "accepted": of_images.accepted,
            "rejected": dict(of_images.rejected),
            "failed": of_images.num_failed,
        },
        "levels": _levels(manifest),
        "real_images": {
            "used": of_real.accepted,
            "rejected": {**of_real.failed, **of_real.rejected},
        },
        "seconds": _seconds(facts),
        "machine": dict(facts.machine),
        "versions": dict(facts.versions),
        **({"cost": image_costs(facts.cost, manifest).as_json()} if facts.cost else {}),
    }


def best_arm(arms: Mapping[str, JsonValue], metric: str) -> str | None:
    """The arm with the highest mean; the first of equals; None where no arm has the metric."""
    means = {name: arm["mean"][metric] for name, arm in arms.items()}
    known = {name: mean for name, mean in means.items() if mean is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _arm(facts: RunFacts, name: str) -> dict[str, JsonValue]:
    """Means, deviations and intervals of an arm, and its seeds."""
    found = {metric: _estimate(facts.values(name, metric)) for metric in METRICS}
    by_seed = facts.metrics(name)
    return {
        "mean": {name: None if e is None else e.mean for name, e in found.items()},
        "std": {name: None if e is None else e.std for name, e in found.items()},
        "ci95": {name: None if e is None else _pair(e.ci95) for name, e in found.items()},
        "seeds": [
            {
                "seed": seed,
                **{metric: by_seed[seed].scalars()[key] for metric, key in METRICS.items()},
                "per_class": list(by_seed[seed].per_class),
            }
            for seed in sorted(by_seed)
        ],
    }


def _estimate(values: list[float | None]) -> Estimate | None:
    found = [value for value in values if value is not None]
    return estimate(found) if len(found) == len(values) else None


def _differences(comparisons: Mapping[str, Comparison]) -> dict[str, JsonValue]:
    return {metric: _difference(comparisons.get(metric)) for metric in METRICS}


def _difference(comparison: Comparison | None) -> dict[str, JsonValue]:
    if comparison is None:
        return dict(NOT_MEASURED)
    return {
        "mean": comparison.difference.mean,
        "ci95": _pair(comparison.difference.ci95),
        "verdict": comparison.verdict,
    }


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _classes(facts: RunFacts, manifest: pa.Table) -> list[dict[str, JsonValue]]:
    compared = compare_classes(facts.metrics(BASELINE), facts.metrics(CURRICULUM))
    by_level = accepted_by_class(manifest, len(facts.class_names))
    synthetic = sum(by_level.values(), np.zeros(len(facts.class_names), dtype=np.int64))
    return [
        {
            "name": facts.class_names[label],
            "shots": str(facts.shots[label]),
            "real": int(facts.class_counts[label]),
            "synthetic": int(synthetic[label]),
            "baseline": None if comparison is None else comparison.baseline.mean,
            "curriculum": None if comparison is None else comparison.arm.mean,
            "gain": _difference(comparison),
        }
        for label, comparison in enumerate(compared)
    ]


def _levels(manifest: pa.Table) -> list[dict[str, JsonValue]]:
    return [
        {
            "image_guidance": level.image_guidance,
            "requested": level.fates.requested,
            "accepted": level.fates.accepted,
            "rejected": dict(level.fates.rejected),
            "failed": level.fates.num_failed,
            "scores": {score_name(name): s.mean for name, s in level.scores.items()},
        }
        for level in level_facts(manifest)
    ]


def _seconds(facts: RunFacts) -> dict[str, float]:
    """Stage to seconds; a stage named twice is summed."""
    found: dict[str, float] = {}
    for stage in facts.stages:
        found[stage.stage] = found.get(stage.stage, 0.0) + stage.seconds
    return found
