"""Does the tail gain? Every arm less the same loss on real images alone, in one picture.

`python -m benchmarks.cifar_parts.gains results/FILE.json PICTURE.png` draws few and all, means over
seeds with 95 % intervals, paired by seed, of every study that `benchmarks.cifar` has written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cifar_parts.frontier import file_and_picture
from benchmarks.study_table import against, by_study
from curriculum.study import Row

LOSSES: Final = ("balanced_softmax", "cross_entropy")
METRICS: Final = ("few", "all")


def gains(cells: Sequence[dict[str, Any]], loss: str) -> dict[str, list[Row]]:
    """Study, by name, to its arms under a loss, less `baseline` under the same."""
    studies = sorted(by_study(cells).items())
    found = {study: against(own, "baseline").get(loss) for study, own in studies}
    return {study: rows for study, rows in found.items() if rows}


def draw(losses: Mapping[str, Mapping[str, Sequence[Row]]], path: Path) -> None:
    """A row of panels for each loss, a colour for each arm."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    arms = dict.fromkeys(
        row.data for studies in losses.values() for rows in studies.values() for row in rows
    )
    colors = dict(zip(arms, mpl.colormaps["tab20"].colors, strict=False))
    heights = [sum(len(rows) + 1 for rows in studies.values()) for studies in losses.values()]
    figure, grid = plt.subplots(
        len(losses),
        len(METRICS),
        figsize=(12, 0.17 * sum(heights)),
        sharey="row",
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for panels, (loss, studies) in zip(grid, losses.items(), strict=True):
        for panel, metric in zip(panels, METRICS, strict=True):
            _panel(panel, studies, metric, colors)
            panel.set_title(f"{metric}: points over {loss} on real images alone", fontsize=9)
    handles = [plt.Line2D([], [], color=colors[arm], marker="o", label=arm) for arm in arms]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=100)


def _panel(
    panel: Any, studies: Mapping[str, Sequence[Row]], metric: str, colors: Mapping[str, Any]
) -> None:
    """Studies from the top; an arm a line."""
    places: dict[str, float] = {}
    place = 0
    for study, rows in studies.items():
        places[study] = -(place + (len(rows) - 1) / 2)
        for row in rows:
            found = row.differences[metric]
            color = colors[row.data]
            panel.plot(found.ci95 or [found.mean] * 2, [-place] * 2, color=color)
            panel.plot(found.mean, -place, "o", color=color, markersize=5)
            place += 1
        panel.axhline(-place, color="0.9", linewidth=0.8)
        place += 1
    panel.axvline(0, color="0.4", linewidth=0.8)
    names = [study.removeprefix("CIFAR-10-LT ") for study in places]
    panel.set_yticks(list(places.values()), names, fontsize=8)
    panel.set_ylim(-place, 1)


if __name__ == "__main__":
    results, picture = file_and_picture(__doc__.splitlines()[0])
    draw({loss: gains(results["cells"], loss) for loss in LOSSES}, picture)
