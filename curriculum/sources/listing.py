"""A list of image files with their labels (ImageNet-LT's text files, or a CSV)."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.data.classes import label_table, read_class_names
from curriculum.data.files import ImageFiles, below, split_column
from curriculum.data.splits import SPLIT_NAMES
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError, SampleRejected, one_of
from generators.places import Place, file_exists, folder_exists, opened, place, why_not

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
PROBED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image as it is listed.

    Attributes:
        where: file and line, for errors.
        path: below the root.
        label: name or integer.
        split: as stated, or None.
    """

    where: str
    path: str
    label: str
    split: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Text files of `path label` lines, or CSV files with named columns, beside a folder of images.

    A file that ends in `.csv` or `.tsv` has a header and columns; any other has lines whose last
    word is the label. A label that is no class name but an integer is a class index.

    Attributes:
        path: the list of training images, or of all images; a path or URL.
        root: folder or URL that the listed paths start from; default: the folder of the list.
        val: list of validation images.
        test: list of test images.
        path_column: of a CSV.
        label_column: of a CSV.
        split_column: of a CSV, with `train`, `val` or `test` in it; not with `val` or `test` lists.
        classes: class names by label: a list, or a text file with one a line; default: the labels.
    """

    path: str
    root: str | None = None
    val: str | None = None
    test: str | None = None
    path_column: str = "path"
    label_column: str = "label"
    split_column: str | None = None
    classes: str | tuple[str, ...] | None = None

    def open(self) -> LabeledImages:
        """Reads the lists; of the images only whether the first ones exist."""
        if self.split_column and (self.val or self.test):
            raise DataError("split_column: expected either a split column or val and test lists")
        root = place(self.path, "path").parent if self.root is None else place(self.root, "root")
        if not folder_exists(root):
            raise DataError(f"root: {str(root)!r}: no such folder: {why_not(root)}")
        lists = (("train", self.path), ("val", self.val), ("test", self.test))
        parts = [(split, list(self._rows(split, path))) for split, path in lists if path]
        rows = [row for _, part in parts for row in part]
        _check_paths(root, rows)
        splits = split_column((split, len(part)) for split, part in parts)
        table = label_table(
            [row.label for row in rows],
            read_class_names(self.classes),
            _stated_splits(rows) if self.split_column else splits,
            lambda index: rows[index].where,
        )
        return ImageFiles(
            root=root,
            files=tuple(row.path for row in rows),
            class_names=table.class_names,
            labels=table.labels,
            splits=table.splits,
        )

    def _rows(self, split: str, name: str) -> Iterator[Row]:
        """The rows of one list.

        Raises:
            DataError: missing file, columns that are not there, or a line that is not complete.
        """
        path = place(name, "path" if split == "train" else split)
        try:
            with (
                opened(path) as data,
                io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as stream,
            ):
                if path.suffix.lower() in DELIMITERS:
                    yield from self._csv_rows(path, stream)
                elif self.split_column:
                    raise DataError(f"split_column: {name!r} is no .csv or .tsv file")
                else:
                    yield from _line_rows(path, stream)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read the list {name!r}: {error}") from error

    def _csv_rows(self, path: Place, lines: Iterator[str]) -> Iterator[Row]:
        """Rows below a header."""
        reader = csv.reader(lines, delimiter=DELIMITERS[path.suffix.lower()])
        header = [column.strip() for column in next(reader, [])]
        wanted = [self.path_column, self.label_column, *filter(None, [self.split_column])]
        for column in wanted:
            if column not in header:
                raise DataError(f"{path}: no column {column!r}; expected {one_of(header, column)}")
        places = [header.index(column) for column in wanted]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path.name}, line {reader.line_num}"
            values = [cells[place].strip() if place < len(cells) else "" for place in places]
            for column, value in zip(wanted, values, strict=True):
                if not value:
                    raise DataError(f"{where}: nothing in column {column!r}")
            split = values[2] if self.split_column else None
            yield Row(where=where, path=values[0], label=values[1], split=split)


def _line_rows(path: Place, lines: Iterator[str]) -> Iterator[Row]:
    """Rows of `path label` lines; the path may hold spaces."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        words = line.strip().rsplit(maxsplit=1)
        if len(words) < 2:
            raise DataError(f"{where}: {line.strip()!r}; expected a path and a label")
        yield Row(where=where, path=words[0], label=words[1], split=None)


def _stated_splits(rows: list[Row]) -> NDArray[np.str_] | None:
    """Splits of a split column; None if all rows are for training."""
    names = []
    for row in rows:
        name = SPLIT_NAMES.get(str(row.split).lower())
        if name is None:
            raise DataError(f"{row.where}: split {row.split!r}; expected 'train', 'val' or 'test'")
        names.append(name)
    return np.array(names, dtype="<U5") if set(names) != {"train"} else None


def _check_paths(root: Place, rows: list[Row]) -> None:
    """Refuses images that are listed twice, and a root that none of the images is below."""
    seen: dict[str, str] = {}
    for row in rows:
        if row.path in seen:
            raise DataError(f"{row.where}: {row.path!r} is listed already in {seen[row.path]}")
        seen[row.path] = row.where
    probed = [row.path for row in rows[:PROBED]]
    if probed and not any(_is_there(root, path) for path in probed):
        raise DataError(
            f"root: none of the first {len(probed)} listed images is in {str(root)!r}, "
            f"e.g. {probed[0]!r}"
        )


def _is_there(root: Place, name: str) -> bool:
    try:
        return file_exists(below(root, name))
    except SampleRejected:
        return False


METHOD: Final[type[SourceSpec]] = Listing
