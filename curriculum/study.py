"""Statistics of a grid of trainings: means, intervals, tests against the best baseline.

Intervals are Student's t, 95 %, over seeds. Differences are paired by seed; p values are of the
paired t-test, corrected by Holm (1979) for the number of comparisons in the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curriculum.compare import Estimate, estimate
from generators.errors import DataError

METRICS = ("many", "medium", "few", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training of the grid.

    Attributes:
        data: which images it saw when: the arm.
        treatment: how classes were balanced.
        is_real: whether it saw real images only.
        seed: of the training.
        test: metric to percent on the test images; None for splits without classes.
        val: likewise on the validation images; empty without any.
        model_evaluations: that its synthetic images have cost.
        seconds: of the training.
    """

    data: str
    treatment: str
    is_real: bool
    seed: int
    test: Mapping[str, float | None]
    val: Mapping[str, float | None]
    model_evaluations: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: one arm with one treatment.

    Attributes:
        estimates: metric to its mean over seeds, for metrics that exist.
        differences: likewise, of the difference to the best baseline; empty for itself.
        p_values: likewise, corrected; None with one seed, or where all differences are equal.
        model_evaluations: that its synthetic images have cost.
        seconds: of a training, mean.
    """

    data: str
    treatment: str
    is_real: bool
    estimates: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    p_values: Mapping[str, float | None]
    model_evaluations: int
    seconds: float


def best_baseline(cells: Sequence[Cell], metric: str = "all") -> tuple[str, str]:
    """(data, treatment) of the arm on real images only that is best on validation images.

    On test images where there are no validation images: that favours the baseline.

    Raises:
        DataError: no cell is on real images only.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        if cell.is_real:
            value = (cell.val or cell.test)[metric]
            found.setdefault((cell.data, cell.treatment), []).append(value or 0.0)
    if not found:
        raise DataError("a study needs an arm on real images only to compare with")
    return max(found, key=lambda arm: (sum(found[arm]) / len(found[arm]), arm))


def summarise(cells: Sequence[Cell], baseline: tuple[str, str]) -> list[Row]:
    """The table, arms in the order of the cells."""
    groups: dict[tuple[str, str], dict[int, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.treatment), {})[cell.seed] = cell
    against = groups[baseline]
    paired = {
        arm: {m: _paired(seeds, against, m) for m in METRICS}
        for arm, seeds in groups.items()
        if arm != baseline
    }
    corrected = {
        metric: holm({arm: _p_value(values[metric]) for arm, values in paired.items()})
        for metric in METRICS
    }
    rows = []
    for arm, seeds in groups.items():
        others = paired.get(arm, {})
        first = next(iter(seeds.values()))
        rows.append(
            Row(
                data=arm[0],
                treatment=arm[1],
                is_real=first.is_real,
                estimates={m: estimate(v) for m in METRICS if (v := _values(seeds, m))},
                differences={
                    metric: estimate(values) for metric, values in others.items() if values
                },
                p_values={m: corrected[m].get(arm) for m, values in others.items() if values},
                model_evaluations=first.model_evaluations,
                seconds=sum(cell.seconds for cell in seeds.values()) / len(seeds),
            )
        )
    return rows


def holm(p_values: Mapping[tuple[str, str], float | None]) -> dict[tuple[str, str], float | None]:
    """Corrected p values: step down, never smaller than the one before (Holm 1979)."""
    known = sorted((p, arm) for arm, p in p_values.items() if p is not None)
    found: dict[tuple[str, str], float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, arm) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        found[arm] = largest
    return found


def _values(seeds: Mapping[int, Cell], metric: str) -> list[float]:
    """By seed; empty where the metric does not exist."""
    values = [seeds[seed].test[metric] for seed in sorted(seeds)]
    return [value for value in values if value is not None]


def _paired(seeds: Mapping[int, Cell], against: Mapping[int, Cell], metric: str) -> list[float]:
    """Differences by seed.

    Raises:
        DataError: not the same seeds.
    """
    if seeds.keys() != against.keys():
        raise DataError(f"arms need the same seeds; got {sorted(seeds)} and {sorted(against)}")
    pairs = zip(_values(seeds, metric), _values(against, metric), strict=True)
    return [ours - theirs for ours, theirs in pairs]


def _p_value(differences: Sequence[float]) -> float | None:
    if len(set(differences)) < 2:
        return None
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)
