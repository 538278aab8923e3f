"""Figures of the images: class histogram, acceptance and scores by level, the curriculum."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, NullLocator

from infra.report.comparison_figures import MOST_NAMED_CLASSES, ROW, class_order
from infra.report.counts import LevelFacts, accepted_by_class, levels, score_name
from infra.report.facts import RunFacts
from infra.report.svg import COLORS, FULL, THIRD, drawing, label, level_color, text_on_level, to_svg

RIBBON = 30
EPOCHS = 24


def histogram_figure(facts: RunFacts, manifest: pa.Table) -> Markup:
    """Training images of each class: real ones, and accepted synthetic ones by level on top."""
    order = class_order(facts)
    by_level = accepted_by_class(manifest, len(order))
    every = levels(manifest)
    layers = [(np.array([facts.class_counts[c] for c in order]), COLORS["real"])]
    layers += [
        (by_level[level][order], level_color(level, every))
        for level in sorted(by_level, reverse=True)
    ]
    total = sum(int(counts.sum()) for counts, _ in layers[1:])
    alternative = (
        f"Training images by class: {int(layers[0][0].sum())} real images and {total} accepted "
        "synthetic images, stacked by level."
    )
    named = len(order) <= MOST_NAMED_CLASSES
    rows = np.arange(len(order))
    with drawing(ROW * len(order) + 40 if named else 300) as (figure, axes):
        start = np.zeros(len(order))
        for counts, color in layers:
            if named:
                axes.barh(rows, counts, left=start, height=0.62, color=color)
            else:
                axes.fill_between(
                    rows + 1, start, start + counts, step="mid", color=color, linewidth=0
                )
            start = start + counts
        if named:
            axes.set_yticks(rows, [label(facts.class_names[c]) for c in order])
            axes.set_ylim(len(order) - 0.5, -0.5)
            axes.set_xlabel("training images")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        else:
            axes.grid(axis="y")
            axes.set_xlabel("class, the largest first")
            axes.set_ylabel("training images")
        return to_svg(figure, "histogram", alternative)


def acceptance_figure(facts: Sequence[LevelFacts]) -> Markup:
    """Share of accepted, rejected and failed images at every level, falling guidance."""
    ordered = sorted(facts, key=lambda level: -level.image_guidance)
    every = tuple(level.image_guidance for level in ordered)
    with drawing(200, THIRD) as (figure, axes):
        axes.grid(visible=False)
        for column, level in enumerate(ordered):
            share = 100 * level.fates.accepted / max(1, level.fates.requested)
            axes.bar(column, 100, width=0.66, color=COLORS["line"])
            color = level_color(level.image_guidance, every)
            axes.bar(column, share, width=0.66, color=color)
            axes.text(column, 103, f"{share:.0f}", ha="center", fontsize=10)
        axes.set_xticks(range(len(every)), [str(level) for level in every])
        axes.set_yticks([0, 50, 100])
        axes.set_ylim(0, 112)
        axes.set_xlabel("image guidance, %")
        axes.set_ylabel("accepted, %")
        shares = ", ".join(
            f"level {level.image_guidance}: {level.fates.accepted} of {level.fates.requested}"
            for level in ordered
        )
        return to_svg(figure, "acceptance", f"Accepted images by level. {shares}.")


def score_figure(facts: Sequence[LevelFacts], column: str, index: int) -> Markup:
    """Median of one score by level, falling guidance, with the quartiles as a band."""
    ordered = sorted(facts, key=lambda level: -level.image_guidance)
    found = [(i, level.scores[column]) for i, level in enumerate(ordered) if column in level.scores]
    places = [i for i, _ in found]
    with drawing(200, THIRD) as (figure, axes):
        axes.grid(axis="y")
        axes.grid(visible=False, axis="x")
        low, high = [s.low for _, s in found], [s.high for _, s in found]
        axes.vlines(places, low, high, color=COLORS["accent"], alpha=0.3, linewidth=9)
        medians = [s.median for _, s in found]
        axes.plot(places, medians, "o-", color=COLORS["accent"], markersize=5)
        axes.set_xticks(range(len(ordered)), [str(level.image_guidance) for level in ordered])
        axes.set_xlim(-0.6, len(ordered) - 0.4)
        axes.set_xlabel("image guidance, %")
        axes.set_ylabel("median, quartiles")
        texts = ", ".join(f"level {ordered[i].image_guidance}: {s.median:.2f}" for i, s in found)
        return to_svg(figure, f"score-{index}", f"Median {score_name(column)} by level. {texts}.")


def timeline_figure(facts: RunFacts, arm: str, index: int) -> Markup:
    """An arm's mixture of levels by epoch as a ribbon, from its schedule alone."""
    mixtures = facts.timeline(arm)
    every = tuple(sorted(facts.config.generation.levels))
    last = index == len(facts.arms) - 2
    height = RIBBON + (EPOCHS if last else 0)
    with drawing(height, FULL) as (figure, axes):
        figure.set_layout_engine("none")  # all ribbons alike, whether with epochs below or without
        axes.set_position((0.01, 1 - RIBBON / height, 0.98, RIBBON / height))
        axes.grid(visible=False)
        for start, length, mixture in runs(mixtures):
            bottom = 0.0
            for level in sorted(mixture):
                color = level_color(level, every)
                axes.bar(
                    start, mixture[level], length, bottom, align="edge", color=color, linewidth=0
                )
                if mixture[level] > 0.9 and length > len(mixtures) / 25:
                    text = "real" if level == 100 else f"{level}"
                    middle = start + length / 2
                    color = text_on_level(level, every)
                    axes.text(middle, 0.5, text, ha="center", va="center_baseline", color=color)
                bottom += mixture[level]
        axes.set_xlim(0, len(mixtures))
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True) if last else NullLocator())
        axes.set_xlabel("")
        alternative = f"Mixture of {arm} by epoch: {mixture_text(mixtures)}."
        return to_svg(figure, f"timeline-{index}", alternative)


def runs(
    mixtures: Sequence[Mapping[int, float]],
) -> list[tuple[int, int, Mapping[int, float]]]:
    """(first epoch, epochs, mixture) of every stretch of equal mixtures."""
    found, start = [], 0
    for _, group in groupby(mixtures, key=lambda mixture: sorted(mixture.items())):
        same = list(group)
        found.append((start, len(same), same[0]))
        start += len(same)
    return found


def mixture_text(mixtures: Sequence[Mapping[int, float]]) -> str:
    """The stretches in words: `epochs 1-4 level 0, epoch 5 real images`."""
    texts = []
    for start, length, mixture in runs(mixtures):
        epochs = f"epoch {start + 1}" if length == 1 else f"epochs {start + 1}–{start + length}"
        names = " + ".join("real images" if k == 100 else f"level {k}" for k in sorted(mixture))
        texts.append(f"{epochs} {names}")
    return ", ".join(texts)


def loss_figure(losses: Sequence[Sequence[float]], name: str = "generator-loss") -> Markup:
    """A generator's training loss, [[step, loss], ...]."""
    with drawing(200) as (figure, axes):
        axes.grid(axis="y")
        steps, values = [pair[0] for pair in losses], [pair[1] for pair in losses]
        axes.plot(steps, values, color=COLORS["accent"])
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        if min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale("log")
        text = f"Training loss of the generator, from {values[0]:.3g} to {values[-1]:.3g}."
        return to_svg(figure, name, text)
