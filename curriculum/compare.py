"""Honest comparison of two trainings over seeds. Knows nothing of how they were trained.

Intervals are Student's t, two-sided, 95 %. Differences are paired by seed: both arms start from the
same weights, on the same real images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from curriculum.evaluate import Metrics
from generators.errors import DataError
from generators.registry import JsonValue

CONFIDENCE = 0.95
LOWER_IS_BETTER = frozenset({"ece"})

Verdict = Literal["better", "no difference shown", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over seeds and how sure it is.

    Attributes:
        mean: in the metric's unit.
        std: standard deviation of one seed (n - 1), None with one seed.
        ci95: 95 % interval of the mean, None with one seed.
        num_seeds: values it rests on.
    """

    mean: float
    std: float | None
    ci95: tuple[float, float] | None
    num_seeds: int

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return {**asdict(self), "ci95": None if self.ci95 is None else list(self.ci95)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of an arm against the baseline.

    Attributes:
        difference: arm minus baseline, paired by seed.
        verdict: `better` or `worse` only when the difference's interval leaves out zero.
        note: why no difference is shown, empty if one is.
    """

    metric: str
    baseline: Estimate
    arm: Estimate
    difference: Estimate
    verdict: Verdict
    note: str = ""

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return {
            "metric": self.metric,
            "baseline": self.baseline.as_json(),
            "arm": self.arm.as_json(),
            "difference": self.difference.as_json(),
            "verdict": self.verdict,
            "note": self.note,
        }


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and 95 % t-interval of one value a seed; at least one value."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean=mean, std=None, ci95=None, num_seeds=1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = _student_t(count - 1) * std / math.sqrt(count)
    return Estimate(mean=mean, std=std, ci95=(mean - half, mean + half), num_seeds=count)


def compare(baseline: Mapping[int, Metrics], arm: Mapping[int, Metrics]) -> dict[str, Comparison]:
    """Compares two arms metric by metric.

    Args:
        baseline: seed to metrics.
        arm: the same seeds.

    Returns:
        Metric name to comparison; metrics that do not exist (a split without classes) are left out.

    Raises:
        DataError: no seed, or not the same ones.
    """
    seeds = _common_seeds(baseline, arm)
    before = {seed: baseline[seed].scalars() for seed in seeds}
    after = {seed: arm[seed].scalars() for seed in seeds}
    found = {
        name: _compare_values(
            name, [before[seed][name] for seed in seeds], [after[seed][name] for seed in seeds]
        )
        for name in before[seeds[0]]
    }
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def compare_classes(
    baseline: Mapping[int, Metrics], arm: Mapping[int, Metrics]
) -> tuple[Comparison | None, ...]:
    """The same for each class's accuracy; None for classes without test images."""
    seeds = _common_seeds(baseline, arm)
    return tuple(
        _compare_values(
            f"class {label}",
            [baseline[seed].per_class[label] for seed in seeds],
            [arm[seed].per_class[label] for seed in seeds],
        )
        for label in range(len(baseline[seeds[0]].per_class))
    )


def _common_seeds(baseline: Mapping[int, Metrics], arm: Mapping[int, Metrics]) -> list[int]:
    seeds = sorted(baseline)
    if not seeds or seeds != sorted(arm):
        raise DataError(f"both arms need the same seeds; got {seeds} and {sorted(arm)}")
    return seeds


def _compare_values(
    metric: str, before: Sequence[float | None], after: Sequence[float | None]
) -> Comparison | None:
    """Compares values paired by seed; None when one of them does not exist."""
    old = [value for value in before if value is not None]
    new = [value for value in after if value is not None]
    if len(old) < len(before) or len(new) < len(after):
        return None
    difference = estimate([a - b for b, a in zip(old, new, strict=True)])
    verdict, note = _judge(difference, metric in LOWER_IS_BETTER)
    return Comparison(
        metric=metric,
        baseline=estimate(old),
        arm=estimate(new),
        difference=difference,
        verdict=verdict,
        note=note,
    )


def _judge(difference: Estimate, lower_is_better: bool) -> tuple[Verdict, str]:
    if difference.ci95 is None:
        return "no difference shown", "one seed has no interval; train at least two"
    low, high = difference.ci95
    if lower_is_better:
        low, high = -high, -low
    if low > 0:
        return "better", ""
    if high < 0:
        return "worse", ""
    return "no difference shown", "the interval of the difference holds zero"


def _student_t(degrees_of_freedom: int) -> float:
    """The two-sided 95 % quantile."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))
