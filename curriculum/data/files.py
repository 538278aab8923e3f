"""Finds the files a config names, and reads them. Knows no file formats."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray

from generators.errors import DataError, SampleRejected
from generators.places import (
    Place,
    file_exists,
    folder_exists,
    glob_remote,
    name_parts,
    place,
    printable,
    read_image,
)

Patterns = str | tuple[str, ...]

# Some cannot be read everywhere (heic): such images are rows with a reason, not left out silently.
IMAGE_EXTENSIONS: Final = frozenset(
    [
        "avif",
        "bmp",
        "dib",
        "gif",
        "heic",
        "heif",
        "j2k",
        "jfif",
        "jp2",
        "jpe",
        "jpeg",
        "jpg",
        "pbm",
        "pgm",
        "png",
        "pnm",
        "ppm",
        "tif",
        "tiff",
        "webp",
    ]
)


def find_files(patterns: Patterns, where: str) -> tuple[Place, ...]:
    """Files by path or URL, glob (`*`, `**`) or braces (`{000..012}`, `{a,b}`), sorted, none twice.

    Raises:
        DataError: a pattern without files; names `where`, the parameter.
    """
    found: dict[str, Place] = {}
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        for text in _expand(str(place(pattern, where)), where):
            try:
                files = _matches(text)
                kind = "is a folder, not a file" if folder_exists(place(text)) else "no such file"
            except OSError as error:
                raise DataError(f"{where}: {text!r}: {error}") from error
            if not files:
                raise DataError(f"{where}: {text!r}: {kind}")
            found |= {str(file): file for file in files}
    if not found:
        raise DataError(f"{where}: no files named")
    return tuple(file for _, file in sorted(found.items()))


def _matches(text: str) -> list[Place]:
    """Files of one pattern without braces."""
    start = place(text)
    if isinstance(start, Path):
        names = [text] if start.is_file() else glob.glob(text, recursive=True)
        return [Path(name) for name in names if Path(name).is_file()]
    return [*glob_remote(start)]


def _expand(pattern: str, where: str) -> list[str]:
    """Patterns without braces; a file of exactly this name comes first: names may hold braces."""
    if "{" not in pattern or file_exists(place(pattern)):
        return [pattern]
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise DataError(f"{where}: braces in {pattern!r}: {error}") from error


def split_files(
    train: Patterns, val: Patterns | None, test: Patterns | None
) -> tuple[tuple[str, Place], ...]:
    """(split, file) of all files, training files first.

    Raises:
        DataError: a pattern without files, or a file in two splits.
    """
    named = (("train", "path", train), ("val", "val", val), ("test", "test", test))
    pairs = [
        (split, path)
        for split, where, patterns in named
        if patterns is not None
        for path in find_files(patterns, where)
    ]
    seen: dict[str, str] = {}
    for split, path in pairs:
        known = seen.setdefault(str(path.resolve() if isinstance(path, Path) else path), split)
        if known != split:
            raise DataError(f"{split}: {str(path)!r} is among the {known} files already")
    return tuple(pairs)


def split_column(sizes: Iterable[tuple[str, int]]) -> NDArray[np.str_] | None:
    """Splits by row from (split, rows) of consecutive parts; None if all of it is `train`."""
    parts = list(sizes)
    if all(split == "train" for split, _ in parts):
        return None
    return np.concatenate([np.full(size, split, dtype="<U5") for split, size in parts])


def short_names(paths: Iterable[Place]) -> tuple[str, ...]:
    """The last parts of paths, as many as tell them apart; free of where the data set lies."""
    parts = [name_parts(path) for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = tuple("/".join(part[-depth:]) for part in parts)
        if len(set(names)) == len(set(parts)):
            return names
    raise AssertionError("different paths have different names")


def below(root: Place, name: str) -> Place:
    """A file by its name in a list, which may be somebody else's: it must not read other files.

    Raises:
        SampleRejected: `missing_file`, the name leads out of the folder.
    """
    if isinstance(root, Path):
        folder = os.path.abspath(root)
        inside = Path(os.path.normpath(os.path.join(folder, name))).is_relative_to(folder)
    else:
        inside = not (name.startswith("/") or ".." in name.split("/") or "://" in name)
    if not inside:
        raise SampleRejected("missing_file", f"{printable(name)!r} leads out of {str(root)!r}")
    return root / name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """A data set of image files, each read as it is.

    Attributes:
        root: folder or URL that the paths start from.
        files: paths below it.
        class_names: by label.
        labels: (N,) class indices.
        splits: (N,) of `train`, `val`, `test`, or None.
    """

    root: Place
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_] | None

    def origin(self, index: int) -> str:
        """The path."""
        return printable(self.files[index])

    def read(self, index: int) -> bytes:
        """The file as it is."""
        return read_image(below(self.root, self.files[index]))
