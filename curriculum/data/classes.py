"""From the labels a data set states (names or integers) to class indices. Knows no files but lists.

The rules are the same for all sources: a label is a class name or, where it is an integer and no
class name, a class index; every class has a training image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.errors import DataError, one_of
from generators.places import place, read_text

Labels = NDArray[np.int64]
MOST_LISTED = 20
MOST_DIGITS = 18  # what fits into 64 bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelTable:
    """The labels of a data set, checked.

    Attributes:
        class_names: by label.
        labels: (N,) class indices.
        splits: (N,) of `train`, `val`, `test`, or None.
    """

    class_names: tuple[str, ...]
    labels: Labels
    splits: NDArray[np.str_] | None


def describe_class(label: int, class_names: Sequence[str]) -> str:
    """`class 'cat'`, or `class 3` where names are not known."""
    return f"class {class_names[label]!r}" if class_names else f"class {label}"


def rows_by_class(labels: Labels) -> dict[int, NDArray[np.int64]]:
    """Label to its rows, ascending; only labels that occur."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    present, starts = np.unique(labels[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(present) else []
    return dict(zip(present.tolist(), parts, strict=True))


def read_class_names(classes: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Class names in the order of their labels, from a list or a text file with one a line.

    Raises:
        DataError: missing file, no names, or a name twice.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        text = read_text(place(classes, "classes"), "classes")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    else:
        names = classes
    return check_class_names(
        names, "classes" + (f" {classes!r}" if isinstance(classes, str) else "")
    )


def check_class_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Refuses lists that do not name classes.

    Raises:
        DataError: no names, or a name twice.
    """
    if not names:
        raise DataError(f"{where}: no class names")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: class {name!r} is named twice")
        seen.add(name)
    return tuple(names)


def label_table(
    values: Sequence[Any],
    class_names: tuple[str, ...] | None,
    splits: NDArray[np.str_] | None,
    where: Callable[[int], str],
) -> LabelTable:
    """Class indices from stated labels.

    Args:
        values: (N,) integers or texts.
        class_names: None takes the texts that occur, sorted, or the integers from 0.
        splits: (N,) or None.
        where: row to where it is, for error messages.

    Raises:
        DataError: a label that is none, or a class without a training image.
    """
    if len(values) == 0:
        raise DataError("the data set has no images")
    for row, value in enumerate(values):
        if value is None or isinstance(value, float) or value == "":
            raise DataError(f"{where(row)}: label {value!r}; expected a class name or an integer")
    texts = [str(value) for value in values]
    named = class_names is not None and set(texts) <= set(class_names)
    if not named and all(_is_integer(text) for text in texts):
        labels = np.array([int(text) for text in texts], dtype=np.int64)
        names = class_names or _index_names(labels, where)
        _check_range(labels, names, where)
    else:
        names = class_names or tuple(sorted(set(texts)))
        index = {name: label for label, name in enumerate(names)}
        for row, text in enumerate(texts):
            if text not in index:
                raise DataError(f"{where(row)}: class {text!r}; expected {_listed(names, text)}")
        labels = np.array([index[text] for text in texts], dtype=np.int64)
    table = LabelTable(class_names=names, labels=labels, splits=splits)
    check_every_class(table)
    return table


def check_every_class(table: LabelTable) -> None:
    """Refuses classes that nothing can be learned of.

    Raises:
        DataError: a class without images, or one of val or test that is not in train.
    """
    if table.splits is not None and not np.any(table.splits == "train"):
        raise DataError("the data set has no training images")
    official = table.splits is not None
    train = table.labels[table.splits == "train"] if official else table.labels
    missing = np.flatnonzero(np.bincount(train, minlength=len(table.class_names)) == 0)
    for label in missing.tolist():
        name = table.class_names[label]
        rows = table.labels == label
        if official and rows.any():
            assert table.splits is not None
            split = table.splits[rows][0]
            raise DataError(f"class {name!r} is in the {split} split but has no image in train")
        raise DataError(f"class {name!r} has no images")


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS


def _index_names(labels: Labels, where: Callable[[int], str]) -> tuple[str, ...]:
    """`0`, `1`, ...: the names of classes that have none."""
    present = np.unique(labels[labels >= 0])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        row = int(np.flatnonzero(labels == present[gaps[0]])[0])
        raise DataError(
            f"{where(row)}: label {labels[row]}, but no image has label {gaps[0]}; integer labels "
            "are class indices 0, 1, 2, ... without gaps, unless `classes` names the classes"
        )
    return tuple(str(label) for label in range(len(present)))


def _check_range(labels: Labels, names: tuple[str, ...], where: Callable[[int], str]) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        row = int(outside[0])
        hint = "; -1 often means that a split has no labels" if labels[row] == -1 else ""
        allowed = f"{len(names)} classes, 0 to {len(names) - 1}"
        raise DataError(f"{where(row)}: label {labels[row]} lies outside the {allowed}{hint}")


def _listed(names: tuple[str, ...], given: str) -> str:
    if len(names) <= MOST_LISTED:
        return one_of(names, given)
    return f"one of the {len(names)} classes, e.g. {', '.join(map(repr, names[:3]))}"
