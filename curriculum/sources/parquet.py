"""Parquet files in the image layout of Hugging Face (`image` struct of bytes and path, `label`)."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curriculum.data.classes import (
    check_class_names,
    label_table,
    read_class_names,
)
from curriculum.data.files import short_names, split_column, split_files
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError, SampleRejected, one_of
from generators.places import Place, StoreError, arrow_source, printable, read_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """Parquet files with a column of images and one of labels, as Hugging Face data sets have.

    An image is a struct of `bytes` and `path`, plain bytes, or a path beside the file. Class names
    come from `classes`, else from the Hugging Face metadata of the file, else from the labels.

    Attributes:
        path: training files, or all files: a path or URL, a glob, or a list of them.
        val: validation files.
        test: test files.
        image_column: name of the column of images.
        label_column: name of the column of labels, integers or names.
        classes: class names by label: a list, or a text file with one a line.
    """

    path: str | tuple[str, ...]
    val: str | tuple[str, ...] | None = None
    test: str | tuple[str, ...] | None = None
    image_column: str = "image"
    label_column: str = "label"
    classes: str | tuple[str, ...] | None = None

    def open(self) -> LabeledImages:
        """Reads the labels; no image."""
        parts = split_files(self.path, self.val, self.test)
        names = short_names(path for _, path in parts)
        opened = [
            _open_file(path, name, self.image_column, self.label_column)
            for (_, path), name in zip(parts, names, strict=True)
        ]
        files = tuple(file for file, _ in opened)
        sizes = [len(labels) for _, labels in opened]
        splits = split_column((part[0], n) for part, n in zip(parts, sizes, strict=True))
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        table = label_table(
            [label for _, labels in opened for label in labels],
            read_class_names(self.classes) or _names_of(files, self.label_column),
            splits,
            lambda index: _origin(files, starts, index),
        )
        return ParquetImages(
            files=files,
            starts=starts,
            image_column=self.image_column,
            class_names=table.class_names,
            labels=table.labels,
            splits=table.splits,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParquetPart:
    """One file: where it is and how its rows are grouped. Holds no handle.

    Attributes:
        path: of the file.
        name: for `origin`.
        metadata: of the file, so that it is parsed once.
        groups: first row of each row group, and the number of rows at the end.
    """

    path: Place
    name: str
    metadata: Any
    groups: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParquetImages:
    """Images of Parquet files; one row group is in memory at a time.

    Attributes:
        files: in order.
        starts: first row of each file, and the number of rows at the end.
        image_column: name of the column of images.
        class_names: by label.
        labels: (N,) class indices.
        splits: (N,) of `train`, `val`, `test`, or None.
        cached: the row group read last: (file, group) to its images.
    """

    files: tuple[ParquetPart, ...]
    starts: NDArray[np.int64]
    image_column: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_] | None
    cached: dict[tuple[int, int], Any] = field(default_factory=dict)

    def origin(self, index: int) -> str:
        """`train.parquet#12`: file and row."""
        return _origin(self.files, self.starts, index)

    def read(self, index: int) -> bytes:
        """The bytes of a row, or of the file it names beside the Parquet file."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        file, row = self.files[number], int(index - self.starts[number])
        group = int(np.searchsorted(file.groups, row, side="right")) - 1
        if (number, group) not in self.cached:
            column = self._read_group(file, group)
            self.cached.clear()
            self.cached[number, group] = column
        value = self.cached[number, group][row - int(file.groups[group])].as_py()
        return image_bytes(value, file.path.parent)

    def _read_group(self, file: ParquetPart, group: int) -> Any:
        try:
            with (
                arrow_source(file.path) as source,
                pq.ParquetFile(source, metadata=file.metadata) as reader,
            ):
                return reader.read_row_group(group, columns=[self.image_column]).column(0)
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise SampleRejected("missing_file", str(file.path)) from error
        except (OSError, pa.ArrowException) as error:
            detail = " ".join(f"{file.name}, row group {group}: {error}".split())
            raise SampleRejected("unreadable_image", detail) from error


def image_bytes(value: Any, folder: Place) -> bytes:
    """The image of a cell: bytes, a path below `folder`, or a struct of both.

    A path that leads out of the folder is no image: data sets of others must not read what lies
    elsewhere on this machine.

    Raises:
        SampleRejected: `missing_file` or `unreadable_image`.
    """
    path = value
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if isinstance(value, bytes):
        return value
    if isinstance(path, str):
        if path.startswith(("/", "~")) or ".." in path.split("/") or "://" in path:
            raise SampleRejected("missing_file", f"{printable(path)!r} leads out of the data set")
        return read_image(folder / path)
    raise SampleRejected("missing_file", "the cell holds neither bytes nor a path")


def hugging_face_names(metadata: Any, column: str) -> tuple[str, ...] | None:
    """Class names that Hugging Face's `datasets` leaves in the metadata of a schema, if any."""
    try:
        info = json.loads((metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return check_class_names(names, f"metadata of column {column!r}")


def _open_file(
    path: Place, name: str, image_column: str, label_column: str
) -> tuple[ParquetPart, list[Any]]:
    """Layout of one file, and its labels as stated.

    Raises:
        DataError: no Parquet file, or columns that are missing or of another type.
    """
    try:
        with arrow_source(path) as source, pq.ParquetFile(source) as reader:
            schema = reader.schema_arrow
            for column in (image_column, label_column):
                if column not in schema.names:
                    known = one_of(schema.names, column)
                    raise DataError(f"{path}: no column {column!r}; expected {known}")
            _check_types(path, schema, image_column, label_column)
            labels = reader.read(columns=[label_column]).column(0).to_pylist()
            metadata = reader.metadata
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return ParquetPart(path=path, name=name, metadata=metadata, groups=groups), labels


def _check_types(path: Place, schema: Any, image_column: str, label_column: str) -> None:
    image, label = schema.field(image_column).type, schema.field(label_column).type
    fields = {item.name for item in image} if pa.types.is_struct(image) else set()
    if not (fields & {"bytes", "path"} or _is_text(image) or _is_binary(image)):
        allowed = "a struct of bytes and path, bytes, or paths"
        raise DataError(f"{path}: column {image_column!r} is {image}; expected {allowed}")
    label = label.value_type if pa.types.is_dictionary(label) else label
    if not (pa.types.is_integer(label) or pa.types.is_boolean(label) or _is_text(label)):
        raise DataError(f"{path}: column {label_column!r} is {label}; expected integers or names")


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names_of(files: tuple[ParquetPart, ...], column: str) -> tuple[str, ...] | None:
    """Class names of the files' metadata; files that state names must state the same."""
    found: dict[tuple[str, ...], str] = {}
    for file in files:
        names = hugging_face_names(file.metadata.schema.to_arrow_schema().metadata, column)
        if names:
            found.setdefault(names, file.name)
    if len(found) > 1:
        raise DataError(f"the files {', '.join(found.values())} name different classes")
    return next(iter(found), None)


def _origin(files: tuple[ParquetPart, ...], starts: NDArray[np.int64], index: int) -> str:
    number = int(np.searchsorted(starts, index, side="right")) - 1
    return f"{files[number].name}#{int(index - starts[number])}"


METHOD: Final[type[SourceSpec]] = Parquet
