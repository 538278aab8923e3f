"""Figures of what was reached: gains of the arms, accuracy by class, learning curves."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from curriculum.compare import compare_classes
from infra.config.schema import BASELINE, CURRICULUM
from infra.report.facts import RunFacts
from infra.report.svg import COLORS, FULL, NUM_ARM_COLORS, drawing, label, to_svg
from infra.report.wording import ACCURACY_OF, digits_of, number, signed

Values = NDArray[np.float64]

ROW = 26
MOST_NAMED_CLASSES = 40


def arm_variable(facts: RunFacts, arm: str) -> str:
    """CSS variable of an arm's colour: the same in every figure of a report."""
    if arm in (BASELINE, CURRICULUM):
        return {BASELINE: "baseline", CURRICULUM: "accent"}[arm]
    others = [name for name in facts.arms if name not in (BASELINE, CURRICULUM)]
    return f"arm-{others.index(arm) % NUM_ARM_COLORS}"


def class_order(facts: RunFacts) -> list[int]:
    """Labels by falling number of real images, then as they are."""
    counts = facts.class_counts
    return sorted(range(len(counts)), key=lambda index: (-counts[index], index))


def gains_figure(facts: RunFacts, metric: str) -> Markup:
    """Differences of all arms to the baseline with intervals; a faint dot is one seed."""
    found = {arm: facts.versus(arm)[metric].difference for arm in facts.arms if arm != BASELINE}
    arms = sorted(found, key=lambda arm: -found[arm].mean)
    digits = digits_of(metric)
    with drawing(ROW * len(arms) + 52) as (figure, axes):
        axes.axvline(0, color=COLORS["baseline"], linewidth=1.2)
        for row, arm in enumerate(arms):
            gain, color = found[arm], COLORS[arm_variable(facts, arm)]
            seeds = [
                after - before
                for before, after in zip(
                    facts.values(BASELINE, metric), facts.values(arm, metric), strict=True
                )
                if before is not None and after is not None
            ]
            axes.plot(seeds, [row] * len(seeds), "o", color=color, alpha=0.3, markersize=4)
            if gain.ci95:
                axes.plot(gain.ci95, [row, row], color=color, linewidth=2, solid_capstyle="round")
            axes.plot([gain.mean], [row], "o", color=color, markersize=7)
        _name_rows(axes, arms, facts)
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(arms)), [signed(found[arm].mean, digits) for arm in arms])
        right.spines["right"].set_visible(False)
        axes.set_xlabel("points against the baseline")
        texts = [f"{arm} {signed(found[arm].mean, digits)}" for arm in arms]
        alternative = f"Gain in {ACCURACY_OF.get(metric, metric)}: {', '.join(texts)}."
        return to_svg(figure, f"gains-{metric.replace('_', '-')}", alternative)


def _name_rows(axes: Axes, arms: Sequence[str], facts: RunFacts) -> None:
    axes.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    for tick, arm in zip(axes.get_yticklabels(), arms, strict=True):
        tick.set_fontweight("bold" if arm == CURRICULUM else "normal")
    axes.set_ylim(len(arms) - 0.5, -0.5)


def classes_figure(facts: RunFacts) -> Markup:
    """Accuracy of each class with and without the curriculum, by falling class count."""
    compared = compare_classes(facts.metrics(BASELINE), facts.metrics(CURRICULUM))
    order = class_order(facts)
    found = [compared[label] for label in order]
    before = np.array([np.nan if one is None else one.baseline.mean for one in found])
    after = np.array([np.nan if one is None else one.arm.mean for one in found])
    better = int(np.sum(after > before))
    alternative = (
        f"Accuracy by class, largest class first: {better} of {len(order)} classes are higher "
        "with the curriculum. The table below has the numbers."
    )
    if len(order) > MOST_NAMED_CLASSES:
        return _ranked_classes(before, after, alternative)
    with drawing(ROW * len(order) + 40) as (figure, axes):
        rows = np.arange(len(order))
        colors = [COLORS["good"] if up else COLORS["bad"] for up in after >= before]
        axes.hlines(rows, before, after, colors=colors, linewidth=2.4, alpha=0.45)
        axes.plot(before, rows, "o", color=COLORS["baseline"], markersize=6)
        axes.plot(after, rows, "o", color=COLORS["accent"], markersize=6)
        names = [f"{label(facts.class_names[c])}  ·  {facts.class_counts[c]}" for c in order]
        axes.set_yticks(rows, names)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.set_xlabel("accuracy, %")
        return to_svg(figure, "classes", alternative)


def _ranked_classes(before: Values, after: Values, alternative: str) -> Markup:
    """The same for more classes than can be named: a dot a class, by rank."""
    with drawing(300) as (figure, axes):
        ranks = np.arange(1, len(before) + 1)
        axes.grid(axis="y")
        for values, color in ((before, COLORS["baseline"]), (after, COLORS["accent"])):
            axes.plot(ranks, values, "o", color=color, alpha=0.35, markersize=3)
            axes.plot(ranks, _smooth(values), color=color)
        axes.set_xlabel("class, the largest first")
        axes.set_ylabel("accuracy, %")
        return to_svg(figure, "classes", alternative)


def _smooth(values: Values) -> Values:
    """Mean over a twelfth of the classes around each; missing values are left out."""
    half = max(1, len(values) // 24)
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return np.array([np.nanmean(w) if np.isfinite(w).any() else np.nan for w in windows])


def learning_figure(facts: RunFacts) -> Markup | None:
    """Training loss of every arm by epoch, mean over seeds; None where none was recorded."""
    curves = {
        arm: [fmean(losses) for losses in zip(*(r.losses for r in results), strict=False)]
        for arm, results in facts.arms.items()
    }
    curves = {arm: curve for arm, curve in curves.items() if curve}
    if not curves:
        return None
    with drawing(240, FULL) as (figure, axes):
        axes.grid(axis="y")
        for arm, curve in curves.items():
            width = 2.4 if arm == CURRICULUM else 1.4
            color = COLORS[arm_variable(facts, arm)]
            place = 3 if arm == CURRICULUM else 2
            (line,) = axes.plot(range(1, len(curve) + 1), curve, color=color, linewidth=width)
            line.set(label=label(arm), zorder=place)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        figure.legend(loc="outside right upper")
        last = ", ".join(f"{arm} {number(curve[-1], 3)}" for arm, curve in curves.items())
        return to_svg(figure, "learning", f"Training loss by epoch; at the end: {last}.")
