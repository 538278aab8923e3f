"""Images that finished shards of other plans hold already. Copies their bytes; generates nothing.

A shard is reused whole where its name is planned. This is for the rest: a plan with one class, seed
or level more has other shards, and most of their images are in the shards of the plan before.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from curriculum.data.decode import encode_image
from curriculum.plan import GenerationPlan
from generators.errors import DataError
from generators.places import Place
from generators.records import WORKER_DIED, GenerationRequest, SampleRecord, Status
from infra.jobs.members import shard_member
from infra.storage.files import sizes_in
from infra.storage.shards import ShardMember, ShardReader, read_layout, read_refs, read_rows

COLUMNS = ("key", "offset", "size", "num_model_calls", "status", "reason")

Extension = Literal["png", "jpg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedImage:
    """Where an image is, and what its row says.

    Attributes:
        folder: of its shard.
        shard: name.
        member: file name in the tar; empty where the request failed.
        offset: of the image in the tar, -1 without one.
        size: of the image in bytes, -1 without one.
        num_model_calls: what it cost.
        status: of its row before any judge.
        reason: of its row before any judge.
    """

    folder: Place
    shard: str
    member: str
    offset: int
    size: int
    num_model_calls: int
    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredForm:
    """How images must be stored to be copied: as this run would write them.

    Attributes:
        extension: png or jpg.
        jpeg_quality: 1..100.
    """

    extension: Extension
    jpeg_quality: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copies:
    """The rows of a plan whose images other shards hold.

    Attributes:
        rows: (N,) of the plan, ascending.
        images: what their twins say, `COLUMNS` and `place`, in the order of `rows`.
        places: folder and shard by `place`.
        extension: of all images.
    """

    rows: NDArray[np.int64]
    images: pa.Table
    places: tuple[tuple[Place, str], ...]
    extension: Extension

    def __len__(self) -> int:
        return len(self.rows)

    def among(self, rows: NDArray[np.int64]) -> dict[str, ReusedImage]:
        """Request key to image, of those rows that can be copied."""
        if not len(self.rows):
            return {}
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found = self.images.take(pa.array(at[self.rows[at] == rows]))
        return dict(self._image(row) for row in found.to_pylist())

    def _image(self, row: dict[str, Any]) -> tuple[str, ReusedImage]:
        key, (folder, shard) = row.pop("key"), self.places[row.pop("place")]
        member = f"{key}.{self.extension}" if row["offset"] >= 0 else ""
        return key, ReusedImage(folder=folder, shard=shard, member=member, **row)


def find_copies(
    plan: GenerationPlan,
    missing: NDArray[np.int64],
    folders: Sequence[Place],
    planned: AbstractSet[str],
    form: StoredForm,
) -> Copies:
    """Looks up the missing rows of a plan in the finished shards of some folders.

    Computes keys and reads twins only at levels where something is missing and something is there.

    Args:
        plan: what is wanted.
        missing: rows of the plan whose shard is not there, ascending.
        folders: of shards; the first one that holds an image lends it.
        planned: names of the plan's own shards: they are there whole, or to be made.
        form: of the images.
    """
    rows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    tables: list[pa.Table] = []
    places: list[tuple[Place, str]] = []
    listed = {folder: list(sizes_in(folder)) for folder in folders} if len(missing) else {}
    for level in plan.levels():
        wanted = missing[plan.level[missing] == level]
        there = list(_finished(listed, level, planned, form)) if len(wanted) else []
        if not there:
            continue
        table = pa.concat_tables(
            images.append_column(
                "place", pa.array([len(places) + number] * images.num_rows, pa.int32())
            )
            for number, (_, _, images) in enumerate(there)
        )
        places += [(folder, shard) for folder, shard, _ in there]
        keys = pa.array(plan.keys(wanted), pa.string())
        at = pc.index_in(keys, value_set=table.column("key").combine_chunks())
        rows.append(wanted[pc.is_valid(at).to_numpy(zero_copy_only=False)])
        tables.append(table.take(at.drop_null()))
    # A plan's rows are ordered by level as its levels are, so that these are ascending.
    return Copies(
        rows=np.concatenate(rows),
        # one chunk: taking a few rows out of thousands of chunks takes long
        images=pa.concat_tables(tables).combine_chunks() if tables else pa.table({}),
        places=tuple(places),
        extension=form.extension,
    )


def reused_members(
    requests: Sequence[GenerationRequest], reused: Mapping[str, ReusedImage]
) -> tuple[list[ShardMember], list[SampleRecord]]:
    """Members and rows as generating would have given them, in the order of requests."""
    members: list[ShardMember] = []
    records: list[SampleRecord] = []
    with ExitStack() as stack:
        folders = {image.folder for image in reused.values()}
        readers = {folder: stack.enter_context(ShardReader(folder)) for folder in folders}
        for request in requests:
            key = request.key
            if key not in reused:
                continue
            image = reused[key]
            if image.member:
                extension: Extension = "png" if image.member.endswith(".png") else "jpg"
                data = readers[image.folder].read(image.shard, image.offset, image.size)
                members.append(shard_member(request, data, extension))
            records.append(
                SampleRecord(
                    key=key,
                    request=request,
                    num_model_calls=image.num_model_calls,
                    status=image.status,
                    reason=image.reason,
                )
            )
    return members, records


def _finished(
    listed: Mapping[Place, Sequence[str]],
    level: int,
    planned: AbstractSet[str],
    form: StoredForm,
) -> Iterator[tuple[Place, str, pa.Table]]:
    """Folder, name and images of whole shards of a level that are stored in this form."""
    own = next(iter(listed), None)  # what the run's own folder holds of the plan is not missing
    for folder, files in listed.items():
        twins = [name for name in files if name.endswith(".parquet")]
        names = [
            name.removesuffix(".parquet") for name in twins if name.startswith(f"g{level:03d}-")
        ]
        for name in read_refs(folder, [n for n in names if folder != own or n not in planned]):
            with suppress(DataError):  # a damaged shard lends nothing
                if _has_form(folder, name, form):
                    rows = read_rows(folder, name, COLUMNS)
                    known = pc.not_equal(rows.column("reason"), WORKER_DIED)  # else never made
                    yield folder, name, rows.filter(known)


def _has_form(folder: Place, shard: str, form: StoredForm) -> bool:
    """Whether a shard's files are what this run would have written; JPEG by its tables."""
    layout = read_layout(folder, shard)
    if layout is None:
        return True  # every request failed
    if layout.extension != form.extension:
        return False
    if form.extension == "png":
        return True
    rows = read_rows(folder, shard, ("offset", "size")).to_pylist()
    first = next(row for row in rows if row["offset"] >= 0)
    with ShardReader(folder) as reader:
        data = reader.read(shard, first["offset"], first["size"])
    wanted = encode_image(np.zeros((8, 8, 3), np.uint8), "jpeg", form.jpeg_quality)
    return _first_table(data) == _first_table(wanted)


def _first_table(data: bytes) -> list[int]:
    """The quantisation of a JPEG file's brightness: its quality in numbers."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return list(image.quantization[0])  # type: ignore[attr-defined]
