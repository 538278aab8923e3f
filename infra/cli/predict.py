"""`discl predict`: a table of predictions, and how many are right."""

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from infra.jobs.predict import Prediction, predict
from infra.storage.atomic import write_bytes

COLUMNS = ("image", "label", "predicted", "probability", "reason")


def show_predictions(
    checkpoint: str, images: Sequence[str], output: Path | None, device: str
) -> None:
    """Writes CSV to a file or to standard output; what it amounts to goes to standard error."""
    found = list(predict(checkpoint, images, device))
    lines = [
        [one.image, one.label, one.predicted, _number(one.probability), one.reason] for one in found
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    if output is None:
        sys.stdout.write(text.getvalue())
    else:
        write_bytes(output, text.getvalue().encode())
    _sum_up(found, Console(stderr=True, highlight=False))


def _sum_up(found: Sequence[Prediction], console: Console) -> None:
    unread = sum(bool(one.reason) for one in found)
    console.print(f"{len(found):,} images, {unread:,} of which cannot be read", soft_wrap=True)
    right = defaultdict[str, list[bool]](list)
    for one in found:
        if one.label and not one.reason:
            right[one.label].append(one.predicted == one.label)
    if right:
        every = [value for values in right.values() for value in values]
        console.print(
            f"accuracy {100 * sum(every) / len(every):.1f} % of {len(every):,} with a class"
        )
        means = [sum(values) / len(values) for values in right.values()]
        console.print(f"mean of {len(means)} classes {100 * sum(means) / len(means):.1f} %")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
