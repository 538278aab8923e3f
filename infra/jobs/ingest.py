"""Ingests real images: reads each one once, and stores it in a shard in the run's own format.

What cannot be read becomes a row with a reason. Bytes that already have the right format are kept.
"""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from curriculum.data.decode import decode, encode_image, resize
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError, SampleRejected
from generators.places import Place
from generators.registry import MethodSpec, build, content_hash
from infra.jobs.images import PixelFormat
from infra.storage.shards import ShardMember, ShardRef, read_ref, write_shard
from infra.workers.base import Progress, WorkerContext

REAL_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("label", pa.int64()),
        ("class_name", pa.string()),
        ("origin", pa.string()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestShard:
    """Some images of one split.

    Attributes:
        source: where they come from.
        split: train, val or test.
        indices: rows of the source.
        listing: hash of what the source lists there, origins and labels.
        folder: where the shard goes.
        form: channels and side of the stored images.
        extension: png or jpg.
        jpeg_quality: 1..100.
    """

    source: MethodSpec
    split: str
    indices: tuple[int, ...]
    listing: str
    folder: Place
    form: PixelFormat
    extension: Literal["png", "jpg"]
    jpeg_quality: int

    @property
    def name(self) -> str:
        """Hash of everything the shard's bytes depend on, but what is in the source's files."""
        facts = [
            self.source.as_json(),
            self.listing,
            self.form.channels,
            self.form.image_size,
            self.extension,
            self.jpeg_quality,
        ]
        return f"{self.split}-{content_hash(facts)}"


def ingest_shard(context: WorkerContext, shard: IngestShard) -> Generator[Progress, None, ShardRef]:
    """Reads, converts and stores the images of one shard.

    Raises:
        DataError: the source no longer lists what it did when the run began.
    """
    done = read_ref(shard.folder, shard.name)
    if done:
        yield Progress(done=len(shard.indices), total=len(shard.indices))
        return done
    spec: SourceSpec = build("source", shard.source, "data.source")
    images = context.keep("source", content_hash(shard.source.as_json()), spec.open)
    if max(shard.indices) >= len(images.labels) or shard.listing != listing_hash(
        images, shard.indices
    ):
        raise DataError("data.source: its files have changed since this run began; start it again")
    members: list[ShardMember] = []
    rows: list[dict[str, object]] = []
    for position, index in enumerate(shard.indices):
        row, member = _ingest(images, index, shard)
        rows.append(row)
        members += [member] if member else []
        if position % 100 == 99:
            yield Progress(done=position + 1, total=len(shard.indices))
    table = pa.Table.from_pylist(rows, schema=REAL_SCHEMA)
    ref = write_shard(shard.folder, shard.name, members, table)
    yield Progress(done=len(shard.indices), total=len(shard.indices))
    return ref


def listing_hash(images: LabeledImages, indices: Sequence[int]) -> str:
    """Hash of what a source lists: other files, names or classes, another hash."""
    return content_hash([[images.origin(i), int(images.labels[i])] for i in indices])


def source_key(origin: str) -> str:
    """Key of a real image: 16 hex digits of the sha256 of its origin, stable as data sets grow."""
    return hashlib.sha256(origin.encode()).hexdigest()[:16]


def _ingest(
    images: LabeledImages, index: int, shard: IngestShard
) -> tuple[dict[str, object], ShardMember | None]:
    label, origin = int(images.labels[index]), images.origin(index)
    row: dict[str, object] = {
        "key": source_key(origin),
        "split": shard.split,
        "label": label,
        "class_name": images.class_names[label],
        "origin": origin,
        "sha256": "",
        "status": "failed",
        "reason": "",
        "detail": "",
    }
    try:
        stored = convert(images.read(index), shard)
    except SampleRejected as error:
        return {**row, "reason": error.reason, "detail": error.detail}, None
    member = ShardMember(
        key=str(row["key"]),
        image=stored,
        extension=shard.extension,
        label=label,
        info={
            "key": str(row["key"]),
            "class_name": images.class_names[label],
            "origin": origin,
            "split": shard.split,
        },
    )
    return {**row, "sha256": hashlib.sha256(stored).hexdigest(), "status": "ok"}, member


def convert(data: bytes, shard: IngestShard) -> bytes:
    """Bytes in the run's format; raises SampleRejected when they are no image."""
    pixels = resize(decode(data, shard.form.channels), shard.form.image_size)
    form: Literal["png", "jpeg"] = "png" if shard.extension == "png" else "jpeg"
    return encode_image(pixels, form, shard.jpeg_quality)


def chunks(indices: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Consecutive parts of at most `size`."""
    return [tuple(int(i) for i in indices[s : s + size]) for s in range(0, len(indices), size)]
