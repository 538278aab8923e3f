"""Gain or trade: all against few, while a multiple of the log prior is subtracted from the logits.

Every classifier gives its head for its tail when its logits are shifted (Menon et al. 2021,
arXiv:2007.07314, Eq. 9). An arm that does no more than that moves along its baseline's curve; one
that gains has its curve above it. `python -m benchmarks.cifar_parts.frontier results/FILE.json
PICTURE.png` prints the gains and draws the curves that `benchmarks.cifar` has written.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cifar_parts.quality import classifiers, finished
from curriculum.compare import estimate
from curriculum.evaluate import EvaluateSpec, metrics_of, predict_logits
from curriculum.losses.base import prior
from generators.classifier_file import load_classifier
from infra.jobs.images import StoredImages
from infra.report.study import signed_interval

SHIFTS: Final = np.round(np.arange(-0.5, 1.51, 0.05), 2)
"""Multiples of the log prior of the real images that are subtracted from the logits."""

BASELINES: Final = ("baseline-balanced_softmax", "baseline")
"""The second is the first in a study whose only loss it is."""

Curve = NDArray[np.float64]
"""(shifts, 2) percents: all and few."""


def frontier(output: Path) -> list[dict[str, Any]]:
    """The curves of all classifiers of a finished study on its test images."""
    store, dataset, form = finished(output)
    folders = (store.real, store.generated)
    test = StoredImages(dataset.split("test"), None, folders, form, frozenset())
    labels = torch.from_numpy(test.rows.labels)
    counts = torch.from_numpy(dataset.class_counts())
    found = []
    for (arm, seed), path in classifiers(output).items():
        network, info = load_classifier(path)
        spec = EvaluateSpec(normalization=info.normalization, device="cpu")
        points = curve(predict_logits(network, test, spec), labels, counts, dataset.few_below)
        found.append({"arm": arm, "seed": seed, "curve": points.round(2).tolist()})
    return found


def curve(logits: Tensor, labels: Tensor, counts: Tensor, few_below: int) -> Curve:
    """The mean accuracy of all classes and of the few-shot ones at every shift, in percent.

    Args:
        logits: (images, classes).
        labels: (images,).
        counts: (classes,) real training images.
        few_below: classes with fewer are few-shot.
    """
    exact = logits.double()
    log_prior = prior(counts, exact).log()
    found = [
        metrics_of(exact - shift * log_prior, labels, counts, few_below, few_below)
        for shift in SHIFTS.tolist()
    ]
    return np.array([(each.balanced_accuracy, each.few) for each in found])


def gains(arm: Curve, baseline: Curve) -> tuple[float, float]:
    """All at equal few, few at equal all: arm's curve less baseline as it was trained.

    NaN where the curve does not come there.
    """
    every, few = baseline[SHIFTS == 0][0]
    # Few grows with the shift but for rounding; beyond the best shift, all falls.
    rising = np.maximum.accumulate(arm[:, 1])
    all_then = np.interp(few, rising, arm[:, 0], left=np.nan, right=np.nan)
    falling = arm[arm[:, 0].argmax() :]
    order = np.argsort(falling[:, 0], kind="stable")
    few_then = np.interp(every, falling[order, 0], falling[order, 1], left=np.nan, right=np.nan)
    return float(all_then - every), float(few_then - few)


def by_arm(curves: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Curve]]:
    """Arm to seed to curve."""
    found: dict[str, dict[int, Curve]] = defaultdict(dict)
    for each in curves:
        found[each["arm"]][each["seed"]] = np.array(each["curve"])
    return found


def table(curves: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: gains of every arm, mean over seeds with the 95 % interval."""
    arms = by_arm(curves)
    baseline = next(arms[name] for name in BASELINES if name in arms)
    lines = ["| arm | all at equal few | few at equal all |", "| --- | ---: | ---: |"]
    for name, seeds in arms.items():
        pairs = np.array([gains(found, baseline[seed]) for seed, found in seeds.items()])
        cells = [
            signed_interval(estimate(column)) if np.isfinite(column).all() else "not reached"
            for column in pairs.T.tolist()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(studies: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """The curves' means over seeds, a panel a study; a dot is the classifier as it was trained."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(studies))
    rows = -(-len(studies) // columns)
    _, grid = plt.subplots(rows, columns, figsize=(6 * columns, 4.5 * rows), squeeze=False)
    for panel in grid.flat[len(studies) :]:
        panel.axis("off")
    for panel, (title, curves) in zip(grid.flat, studies.items(), strict=False):
        panel.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
        for name, seeds in by_arm(curves).items():
            mean = np.mean(list(seeds.values()), axis=0)
            (drawn,) = panel.plot(mean[:, 1], mean[:, 0], label=name)
            panel.plot(*mean[SHIFTS == 0][0][::-1], "o", color=drawn.get_color())
        panel.set_title(title, fontsize=9)
        panel.set(xlabel="few, %", ylabel="all, %")
        panel.legend(fontsize=7)
    plt.tight_layout()
    plt.savefig(path, dpi=110)


def file_and_picture(description: str) -> tuple[dict[str, Any], Path]:
    """What the command line names: the results, read, and the picture to write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("file", type=Path)
    parser.add_argument("picture", type=Path)
    asked = parser.parse_args()
    return json.loads(asked.file.read_text()), asked.picture


if __name__ == "__main__":
    results, picture = file_and_picture(__doc__.splitlines()[0])
    found = {told["data"]: told["frontier"] for told in results["studies"] if "frontier" in told}
    for title, curves in found.items():
        print(f"**{title}**\n\n{table(curves)}\n")
    draw(found, picture)
