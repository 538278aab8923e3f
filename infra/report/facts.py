"""What a report is made of, beside the manifests. Holds plain values; reads no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from curriculum.compare import Comparison, compare
from curriculum.evaluate import Metrics
from curriculum.schedules.base import CurriculumSchedule, timeline
from generators.errors import DataError
from generators.registry import JsonValue, build
from infra.config.schema import BASELINE, CURRICULUM, RunConfig

METRICS: Final[Mapping[str, str]] = {
    "all": "top1",
    "few": "few",
    "medium": "medium",
    "many": "many",
    "macro_f1": "macro_f1",
    "balanced": "balanced_accuracy",
    "ece": "ece",
}
"""A metric's name in results and reports to its name in `Metrics.scalars`, in a table's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """One trained classifier of an arm.

    Attributes:
        seed: of the training.
        metrics: on the test set.
        losses: mean training loss of each epoch; may be empty.
        val: on the validation set, if there is one.
        seconds: of the training.
    """

    seed: int
    metrics: Metrics
    losses: tuple[float, ...] = ()
    val: Metrics | None = None
    seconds: float = 0.0

    @classmethod
    def from_json(cls, result: Mapping[str, JsonValue]) -> "SeedResult":
        """From what a training stores: `seed`, `metrics`, and `epochs`, a list with `loss`."""
        return cls(
            seed=result["seed"],
            metrics=Metrics.from_json(result["metrics"]),
            losses=tuple(epoch["loss"] for epoch in result.get("epochs", ())),
            val=Metrics.from_json(result["val"]) if "val" in result else None,
            seconds=result.get("seconds", 0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What one stage of a run took.

    Attributes:
        stage: its name.
        seconds: its part of the wall clock, over all restarts; stages at work at the same time
            share the clock.
        units: how many it worked through; 0 where there is nothing to count.
        unit: what they are, in the plural, e.g. `images`.
    """

    stage: str
    seconds: float
    units: int = 0
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Seconds of workers, and rows that the network evaluated."""

    seconds: float
    model_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCost:
    """What the synthetic images cost, summed over shards and workers.

    Attributes:
        images: made, refused ones included.
        model_calls: rows that the network evaluated.
        seconds: of the workers, from the first to the last line of their jobs.
        bare_seconds: what the same rows take when nothing but the network runs.
        batch_fill: mean rows of a batch as a share of the batch size, 0..1.
        batch_size: most rows in a batch.
        queue: rows that waited when a batch was taken, on average, the batch included.
        stages: stage to seconds; stages on other threads overlap with the network's.
        levels: image guidance to what its shards took.
        price_per_hour: of one worker, in any currency; None where it is not known.
    """

    images: int
    model_calls: int
    seconds: float
    bare_seconds: float
    batch_fill: float
    batch_size: int
    queue: float
    stages: Mapping[str, float]
    levels: Mapping[int, Spending] = field(default_factory=dict)
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunFacts:
    """Everything a report shows that does not stand in the manifests.

    Attributes:
        config: of the run.
        command: as typed, to do it again.
        machine: name to text, e.g. `cpu`, `cores`, `memory`, `devices`.
        versions: package to version.
        generator_card: what is known of the generator's making; any key may be missing:
            `knowledge` (text), `class_names`, `seed` or `fit.seed`, `seconds`, `images`, `losses`
            ([[step, loss], ...]), `knowledge_alone` (`accuracy` in percent of a classifier that
            was trained on the generator's own training data alone, `measured_on`, `images`).
        class_names: by label.
        class_counts: real training images per class.
        shots: `many`, `medium` or `few` per class.
        arms: arm to its trainings, one a seed, the same seeds for every arm.
        stages: in the order they ran.
        cost: of the generation, None where nothing was generated.
    """

    config: RunConfig
    command: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    generator_card: Mapping[str, JsonValue]
    class_names: Sequence[str]
    class_counts: Sequence[int]
    shots: Sequence[str]
    arms: Mapping[str, Sequence[SeedResult]]
    stages: Sequence[StageTime] = ()
    cost: GenerationCost | None = None

    def __post_init__(self) -> None:
        assert len(self.class_names) == len(self.class_counts) == len(self.shots)
        for name in (BASELINE, CURRICULUM):
            if not self.arms.get(name):
                raise DataError(f"a report needs the trainings of the arm {name!r}")

    def metrics(self, arm: str) -> dict[int, Metrics]:
        """Seed to metrics of an arm."""
        return {result.seed: result.metrics for result in self.arms[arm]}

    def values(self, arm: str, metric: str) -> list[float | None]:
        """A metric of an arm, one value a seed in the order of seeds; None where there is none."""
        found = self.metrics(arm)
        return [found[seed].scalars()[METRICS[metric]] for seed in sorted(found)]

    def versus(self, arm: str, reference: str = BASELINE) -> dict[str, Comparison]:
        """An arm against another one, paired by seed; without metrics that do not exist."""
        found = compare(self.metrics(reference), self.metrics(arm))
        return {name: found[key] for name, key in METRICS.items() if key in found}

    def timeline(self, arm: str) -> tuple[Mapping[int, float], ...]:
        """Image-guidance weights of every epoch of an arm, from its schedule alone."""
        spec = self.config.arms()[arm].schedule
        schedule: CurriculumSchedule = build("schedule", spec, f"{arm}.schedule")
        return timeline(schedule, self.config.training.epochs)

    @property
    def num_seeds(self) -> int:
        """Trainings of every arm."""
        return len(self.arms[BASELINE])

    @property
    def main_metric(self) -> str:
        """What the run is about: `few`, or `all` where no class is few-shot."""
        return "few" if None not in self.values(BASELINE, "few") else "all"
