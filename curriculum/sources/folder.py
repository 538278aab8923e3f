"""A folder of class folders (the layout of torchvision's ImageFolder)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.data.classes import LabelTable, check_every_class
from curriculum.data.files import IMAGE_EXTENSIONS, ImageFiles
from curriculum.data.splits import SPLIT_NAMES
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError
from generators.places import (
    Place,
    file_exists,
    folder_exists,
    list_remote,
    place,
    printable,
    why_not,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with one folder of images per class; class folders may be nested.

    Every folder that holds images itself is a class, named by its path: `animals/cat`. If the top
    holds nothing but `train` and `val` (`valid`, `validation`) or `test` folders, these are the
    official splits. Hidden files, and files that are no images by their extension, are left out.

    Attributes:
        path: the folder, or its URL.
    """

    path: str

    def open(self) -> LabeledImages:
        """Lists the folder; reads no file."""
        root = place(self.path, "path")
        try:
            files = sorted(image_files(root))
        except OSError as error:
            raise DataError(f"path: {self.path!r} cannot be listed: {error}") from error
        if not files:
            raise DataError(
                f"path: no images in {self.path!r} ({', '.join(sorted(IMAGE_EXTENSIONS))})"
            )
        parts = _split_folders(root, files)
        names, labels = _classes(self.path, files, skip=1 if parts else 0)
        splits = None
        if len(set(parts.values())) > 1:
            of_file = [parts[file.partition("/")[0]] for file in files]
            splits = np.array(of_file, dtype="<U5")
        table = LabelTable(class_names=names, labels=labels, splits=splits)
        check_every_class(table)
        return ImageFiles(
            root=root,
            files=tuple(files),
            class_names=table.class_names,
            labels=table.labels,
            splits=table.splits,
        )


def image_files(root: Place) -> Iterator[str]:
    """Paths of all images below a folder on a disk or in an object store, in no order.

    Raises:
        DataError: no such folder, or one without images in it.
    """
    if not folder_exists(root):
        found = "is a file, not a folder" if file_exists(root) else "no such folder"
        raise DataError(f"path: {str(root)!r}: {found}: {why_not(root)}")
    if isinstance(root, Path):
        yield from _files_below(root, "", ())
        return
    shown = [name for name in list_remote(root) if not _is_hidden(name)]
    images = [name for name in shown if _is_image(name)]
    inner = {name[:end] for name in images for end, sign in enumerate(name) if sign == "/"}
    for name in sorted(shown):
        folder = name.rpartition("/")[0]
        if folder and folder not in inner:
            others = f"only other files like {name.rpartition('/')[2]!r}"
            raise DataError(f"path: class folder {folder!r} has no images, {others}")
    yield from images


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _files_below(root: Path, folder: str, above: tuple[Path, ...]) -> Iterator[str]:
    """Paths of all images below `root / folder`, in no order.

    Raises:
        DataError: a folder without images, or one that contains itself by a link.
    """
    directory = root / folder
    real = directory.resolve()
    if real in above:
        raise DataError(f"path: folder {folder!r} links to a folder above it")
    entries = [entry for entry in os.scandir(directory) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = [entry.name for entry in entries if not entry.is_dir()]
    prefix = f"{folder}/" if folder else ""
    images = [name for name in files if _is_image(name)]
    if folder and not images and not folders:
        others = f", only other files like {sorted(files)[0]!r}" if files else ""
        raise DataError(f"path: class folder {printable(folder)!r} has no images{others}")
    yield from (prefix + name for name in images)
    for name in folders:
        yield from _files_below(root, prefix + name, (*above, real))


def _split_folders(root: Place, files: list[str]) -> dict[str, str]:
    """Top folder to the split it is; empty where the top folders are classes.

    Raises:
        DataError: two folders for one split, splits without `train`, or splits beside others.
    """
    tops = sorted({file.partition("/")[0] for file in files if "/" in file})
    named = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    nested = {file.partition("/")[0] for file in files if file.count("/") > 1}
    named = {top: split for top, split in named.items() if top in nested}
    if not named:
        return {}
    found = ", ".join(repr(top) for top in named)
    others = [top for top in tops if top not in named]
    if others:
        if len(named) == 1 and "train" not in named.values():
            return {}  # a class group that happens to be called `test`
        raise DataError(
            f"path: {str(root)!r} has split folders {found} beside {others[0]!r}; expected either "
            "only split folders or only class folders"
        )
    if len(set(named.values())) < len(named):
        raise DataError(f"path: {str(root)!r} has two folders for one split: {found}")
    if "train" not in named.values():
        raise DataError(f"path: {str(root)!r} has {found} but no 'train' folder")
    return named


def _classes(path: str, files: list[str], skip: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names, and labels of files; the first `skip` parts of a path are no class."""
    owners = []
    for file in files:
        parts = file.split("/")[skip:-1]
        if not parts:
            raise DataError(
                f"path: image {printable(file)!r} in {path!r} lies in no class folder; "
                "expected images only in folders named by their class"
            )
        owners.append("/".join(parts))
    names = sorted(set(owners))
    index = {name: label for label, name in enumerate(names)}
    return tuple(map(printable, names)), np.array(
        [index[owner] for owner in owners], dtype=np.int64
    )


METHOD: Final[type[SourceSpec]] = Folder
