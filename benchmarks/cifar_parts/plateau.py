"""Are the classifiers done? Accuracy on the test images against the length of the training.

`python -m benchmarks.cifar_parts.plateau results/FILE.json PICTURE.png` prints and draws arms of
studies that differ in their number of epochs. Each length has its own decay of the learning rate
to 0.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cifar_parts.frontier import file_and_picture
from benchmarks.cifar_parts.studies import STUDIES
from benchmarks.study_table import by_study
from curriculum.study import Row, best_baseline, summarise
from infra.report.study import line

LENGTHS: Final = {
    5: ("real_5_epochs",),
    10: ("real_10_epochs",),
    20: ("real", "outside_prior"),
    40: ("real_40_epochs", "outside_40_epochs"),
    80: ("outside_80_epochs",),
}
"""Epochs to studies; of an arm that several have, the last one's is shown."""

LEAST: Final = 3
"""Lengths that an arm needs to be shown."""

Curves = Mapping[str, Mapping[int, Row]]
"""Arm to epochs to its line of that study's table."""


def curves(cells: Sequence[dict[str, Any]]) -> Curves:
    """The arms of enough lengths, epochs ascending."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    studies = by_study(cells)
    for epochs, names in LENGTHS.items():
        for name in names:
            own = studies.get(STUDIES[name].data, [])
            for row in summarise(own, best_baseline(own)):
                found[f"{row.data}, {row.treatment}"][epochs] = row
    return {arm: rows for arm, rows in found.items() if len(rows) >= LEAST}


def table(found: Curves) -> str:
    """Markdown: mean and half-width of the 95 % interval over seeds."""
    lines = [
        "| data | loss | epochs | many | medium | few | all |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for lengths in found.values():
        for epochs, row in lengths.items():
            data, loss, *metrics = line(row)[:6]
            lines.append(f"| {data} | {loss} | {epochs} | {' | '.join(metrics)} |")
    return "\n".join(lines)


def draw(found: Curves, path: Path) -> None:
    """All and few against epochs, a line an arm; bars are 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    _, panels = plt.subplots(1, 2, figsize=(11, 4))
    for panel, metric in zip(panels, ("all", "few"), strict=True):
        for arm, lengths in found.items():
            told = [row.estimates[metric] for row in lengths.values()]
            means = [each.mean for each in told]
            spreads = [each.ci95[1] - each.mean if each.ci95 else 0.0 for each in told]
            panel.errorbar(list(lengths), means, spreads, marker="o", capsize=3, label=arm)
        panel.set(xscale="log", xlabel="epochs of 120 updates", ylabel=f"{metric}, %")
        panel.set_xticks(list(LENGTHS), labels=[str(epochs) for epochs in LENGTHS])
        panel.minorticks_off()
    panels[0].legend(fontsize=8)
    plt.tight_layout()
    plt.savefig(path, dpi=110)


if __name__ == "__main__":
    results, picture = file_and_picture(__doc__.splitlines()[0])
    told = curves(results["cells"])
    print(table(told))
    draw(told, picture)
