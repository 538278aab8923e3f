"""Checks a folder of shards and says what is wrong with it. Repairs nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from generators.errors import DataError
from generators.places import Place
from infra.storage.atomic import temporary_files
from infra.storage.files import file_sha256, sizes_in
from infra.storage.members import common_layout
from infra.storage.refs import ShardRef, read_layout, read_rows, recorded_ref
from infra.storage.tar import table_path, tar_path

Code = Literal[
    "missing_rows",
    "damaged_rows",
    "missing_tar",
    "wrong_size",
    "wrong_sha256",
    "different_layout",
    "unlisted_file",
    "temporary_file",
    "wrong_row",
    "key_twice",
    "other_rows",
    "other_split",
    "missing_file",
    "damaged_file",
]
SHARD_FILE: Final = re.compile(r"(?P<name>.+)\.(tar|parquet)")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProblem:
    """One thing that is wrong.

    Attributes:
        path: the file it is about.
        code: what kind of problem, for programs.
        detail: one line for humans.
    """

    path: Place
    code: Code
    detail: str


def check_store(
    directory: Place, names: Sequence[str], *, verify: bool = True
) -> list[StoreProblem]:
    """Problems of the named shards and of files that belong to none, in the order of names.

    Args:
        directory: of the shards.
        names: the shards that should be there.
        verify: also read every byte; without it a tar of the right size is taken to be right.
    """
    sizes = sizes_in(directory)
    problems = [p for name in names for p in check_shard(directory, name, sizes, verify=verify)]
    whole = [name for name in names if recorded_ref(directory, name)]
    try:
        common_layout((name, read_layout(directory, name)) for name in whole)
    except DataError as error:
        problems.append(StoreProblem(path=directory, code="different_layout", detail=str(error)))
    problems += unlisted(directory, names, sizes)
    for path in temporary_files(directory):
        detail = "being written, or left by a writer that was killed"
        problems.append(StoreProblem(path=path, code="temporary_file", detail=detail))
    return problems


def unlisted(
    directory: Place, names: Sequence[str], sizes: Mapping[str, int]
) -> list[StoreProblem]:
    """Files of shards in a folder that are of none of these shards."""
    listed, detail = set(names), "of no listed shard; readers that take *.tar read it too"
    matches = (SHARD_FILE.fullmatch(file) for file in sizes)
    return [
        StoreProblem(path=directory / match[0], code="unlisted_file", detail=detail)
        for match in matches
        if match and match["name"] not in listed
    ]


def check_shard(
    directory: Place, name: str, sizes: Mapping[str, int], *, verify: bool
) -> list[StoreProblem]:
    """Problems of one shard; `sizes` are the files of the folder with their bytes."""
    table, tar = table_path(directory, name), tar_path(directory, name)
    if table.name not in sizes:
        detail = "the shard is not complete"
        return [StoreProblem(path=table, code="missing_rows", detail=detail)]
    ref = recorded_ref(directory, name)
    if ref is None:
        detail = "not the rows of this shard, or damaged"
        return [StoreProblem(path=table, code="damaged_rows", detail=detail)]
    problems = []
    if verify:
        try:
            read_rows(directory, name)
        except DataError as error:
            problems.append(StoreProblem(path=table, code="damaged_rows", detail=str(error)))
    if ref.num_samples:
        problems += _check_tar(tar, ref, sizes, verify)
    elif tar.name in sizes:
        detail = "the shard has no images"
        problems.append(StoreProblem(path=tar, code="unlisted_file", detail=detail))
    return problems


def _check_tar(
    path: Place, ref: ShardRef, sizes: Mapping[str, int], verify: bool
) -> list[StoreProblem]:
    """Problems of a tar that should be there."""
    if path.name not in sizes:
        detail = f"{ref.num_samples} images are gone"
        return [StoreProblem(path=path, code="missing_tar", detail=detail)]
    size = sizes[path.name]
    if size != ref.num_bytes:
        detail = f"{size} bytes, recorded are {ref.num_bytes}"
        return [StoreProblem(path=path, code="wrong_size", detail=detail)]
    if verify and (found := file_sha256(path)) != ref.sha256:
        detail = f"sha256 {found}, recorded is {ref.sha256}"
        return [StoreProblem(path=path, code="wrong_sha256", detail=detail)]
    return []
