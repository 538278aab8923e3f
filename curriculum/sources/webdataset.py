"""WebDataset tars: samples of an image and a label with a common name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from curriculum.data.classes import check_class_names, label_table, read_class_names
from curriculum.data.files import IMAGE_EXTENSIONS, short_names, split_column, split_files
from curriculum.data.tar_index import TarSample, scan_tar
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError, SampleRejected, one_of
from generators.places import (
    MAX_IMAGE_BYTES,
    Place,
    StoreError,
    file_exists,
    opened,
    read_range,
    read_text,
)

NOTHING: Final = -1
MAX_LABEL_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Webdataset:
    """WebDataset tars with an image member and a label member (`.cls`, or a field of `.json`).

    Tars are scanned once for the positions of their members and then read by position; they must
    not be compressed. Class names come from `classes`, else from `class_names` in an `_info.json`
    beside the tars, else from the labels.

    Attributes:
        path: training tars, or all tars: a path or URL, a glob, braces (`{000..012}`), or a list.
        val: validation tars.
        test: test tars.
        image_member: suffix of the image, e.g. `left.jpg`; default: the only image of a sample.
        label_member: suffix of a text member with the label.
        label_field: instead of `label_member`: field of the `.json` member with the label.
        classes: class names by label: a list, or a text file with one a line.
    """

    path: str | tuple[str, ...]
    val: str | tuple[str, ...] | None = None
    test: str | tuple[str, ...] | None = None
    image_member: str | None = None
    label_member: str = "cls"
    label_field: str | None = None
    classes: str | tuple[str, ...] | None = None

    def open(self) -> LabeledImages:
        """Scans the tars and reads the labels; no image."""
        parts = split_files(self.path, self.val, self.test)
        paths = tuple(path for _, path in parts)
        names = short_names(paths)
        origins: list[str] = []
        labels: list[Any] = []
        places: list[tuple[int, int, int]] = []
        sizes: list[tuple[str, int]] = []
        for number, (split, path) in enumerate(parts):
            samples = scan_tar(path)
            sizes.append((split, len(samples)))
            labels += self._labels(path, samples)
            for sample in samples:
                origins.append(f"{names[number]}#{sample.key}")
                places.append((number, *self._image(path, sample)))
        table = label_table(
            labels,
            read_class_names(self.classes) or _info_names(paths),
            split_column(sizes),
            lambda index: origins[index],
        )
        array = np.array(places, dtype=np.int64).reshape(-1, 3)
        return TarImages(
            paths=paths,
            origins=tuple(origins),
            places=array,
            class_names=table.class_names,
            labels=table.labels,
            splits=table.splits,
        )

    def _labels(self, path: Place, samples: list[TarSample]) -> list[Any]:
        """Labels of the samples of one tar, as stated."""
        suffix = "json" if self.label_field else self.label_member
        labels: list[Any] = []
        try:
            with opened(path) as stream:
                for sample in samples:
                    if suffix not in sample.members:
                        found = one_of(sample.members)
                        raise DataError(f"{path}: sample {sample.key!r} has no {suffix!r}; {found}")
                    offset, size = sample.members[suffix]
                    if size > MAX_LABEL_BYTES:
                        raise DataError(f"{path}: label of {sample.key!r} has {size} bytes")
                    stream.seek(offset)
                    labels.append(self._label(path, sample.key, stream.read(size)))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        return labels

    def _label(self, path: Place, key: str, data: bytes) -> Any:
        try:
            text = data.decode().strip()
            if not self.label_field:
                return text
            value = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}: label of sample {key!r} cannot be read: {error}") from error
        if not isinstance(value, Mapping) or self.label_field not in value:
            fields = one_of(value) if isinstance(value, Mapping) and value else "no fields"
            raise DataError(
                f"{path}: the .json of sample {key!r} has no {self.label_field!r}; it has {fields}"
            )
        return value[self.label_field]

    def _image(self, path: Place, sample: TarSample) -> tuple[int, int]:
        """Byte range of the image; `NOTHING` where a sample has none: it becomes a rejected row."""
        if self.image_member:
            return sample.members.get(self.image_member.lower(), (NOTHING, NOTHING))
        images = sorted(IMAGE_EXTENSIONS & set(sample.members))
        if len(images) > 1:
            raise DataError(
                f"{path}: sample {sample.key!r} has several images ({', '.join(images)}); "
                "choose one with `image_member`"
            )
        return sample.members[images[0]] if images else (NOTHING, NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TarImages:
    """Images in tars, by position.

    Attributes:
        paths: of the tars.
        origins: by row.
        places: (N, 3): number of the tar, offset, size.
        class_names: by label.
        labels: (N,) class indices.
        splits: (N,) of `train`, `val`, `test`, or None.
    """

    paths: tuple[Place, ...]
    origins: tuple[str, ...]
    places: NDArray[np.int64]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_] | None

    def origin(self, index: int) -> str:
        """`train-000.tar#key`."""
        return self.origins[index]

    def read(self, index: int) -> bytes:
        """The image member as it is."""
        number, offset, size = self.places[index].tolist()
        if offset == NOTHING:
            raise SampleRejected("missing_file", f"{self.origins[index]} has no image member")
        if size > MAX_IMAGE_BYTES:
            raise SampleRejected("image_too_large", f"{self.origins[index]} has {size} bytes")
        try:
            return read_range(self.paths[number], offset, size)
        except FileNotFoundError as error:
            raise SampleRejected("missing_file", str(self.paths[number])) from error
        except StoreError:
            raise
        except OSError as error:
            raise SampleRejected("unreadable_image", str(error)) from error


def _info_names(paths: tuple[Place, ...]) -> tuple[str, ...] | None:
    """Class names of the first `_info.json` beside the tars that states them."""
    folders = {str(path.parent): path.parent for path in paths}
    for _, folder in sorted(folders.items()):
        info = folder / "_info.json"
        try:
            if not file_exists(info):
                continue
            names = json.loads(read_text(info, str(info))).get("class_names")
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{info}: cannot be read as JSON: {error}") from error
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return check_class_names(names, str(info))
    return None


METHOD: Final[type[SourceSpec]] = Webdataset
