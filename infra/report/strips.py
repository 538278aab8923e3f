"""Which images a report shows: by rule, not by eye, so that no good ones are picked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from infra.report.counts import fates, levels, score_columns
from infra.report.facts import RunFacts
from infra.report.pictures import Picture, made_picture, real_picture
from infra.storage.reader import ShardReader
from infra.storage.runs import RunStore

MOST_STRIPS: Final = 6
MOST_ACCEPTED: Final = 18
MOST_REJECTED: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A real image and what was made of it with one seed, levels descending.

    Attributes:
        class_name: of all images.
        num_real: real training images of the class.
        seed: of all synthetic images.
        pictures: the source first.
    """

    class_name: str
    num_real: int
    seed: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Images that were refused or never made for one reason.

    Attributes:
        reason: its code.
        made: whether they exist: refused by a judge, not failed.
        count: how many there are in all.
        pictures: some of them; none where they were never made.
    """

    reason: str
    made: bool
    count: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """All images of a report."""

    strips: tuple[Strip, ...]
    accepted: tuple[Picture, ...]
    rejected: tuple[Rejected, ...]


def gallery(store: RunStore, facts: RunFacts, manifest: pa.Table, real: pa.Table) -> Gallery:
    """Chooses and reads the images of a report."""
    columns = score_columns(manifest)
    with ShardReader(store.generated) as made, ShardReader(store.real) as sources:
        return Gallery(
            strips=tuple(
                strip
                for label in _tail_labels(facts, manifest)
                if (strip := _strip(label, facts, (manifest, real), (made, sources))) is not None
            ),
            accepted=tuple(
                made_picture(made, row, columns)
                for row in _spread(manifest.filter(_is(manifest, "status", "ok")), MOST_ACCEPTED)
            ),
            rejected=_rejected(manifest, made, columns),
        )


def _tail_labels(facts: RunFacts, manifest: pa.Table) -> list[int]:
    """Classes with synthetic images, the rarest first."""
    found = pc.unique(manifest.column("label")).to_pylist()
    return sorted(found, key=lambda label: (facts.class_counts[label], label))[:MOST_STRIPS]


def _strip(
    label: int,
    facts: RunFacts,
    tables: tuple[pa.Table, pa.Table],
    readers: tuple[ShardReader, ShardReader],
) -> Strip | None:
    """The first source and seed of a class that were asked for at every level."""
    manifest, real = tables
    every = levels(manifest)
    own = manifest.filter(_is(manifest, "label", label))
    grouped = own.group_by(["source_key", "seed"]).aggregate([("image_guidance", "count_distinct")])
    full = grouped.filter(_is(grouped, "image_guidance_count_distinct", len(every)))
    if full.num_rows == 0:
        return None
    first = full.sort_by([("source_key", "ascending"), ("seed", "ascending")]).slice(0, 1)
    chosen = first.to_pylist()[0]
    same = pc.and_(_is(own, "source_key", chosen["source_key"]), _is(own, "seed", chosen["seed"]))
    rows = own.filter(same).sort_by([("image_guidance", "descending")]).to_pylist()
    source = real.filter(_is(real, "key", chosen["source_key"])).to_pylist()[0]
    columns = score_columns(manifest)
    pictures = [made_picture(readers[0], row, columns) for row in rows]
    return Strip(
        class_name=facts.class_names[label],
        num_real=int(facts.class_counts[label]),
        seed=chosen["seed"],
        pictures=(real_picture(readers[1], source), *pictures),
    )


def _rejected(
    manifest: pa.Table, reader: ShardReader, columns: tuple[str, ...]
) -> tuple[Rejected, ...]:
    """One entry a reason, the most frequent first, those that were never made last."""
    counted = fates(manifest)
    found = []
    for status, reasons in (("filtered", counted.rejected), ("failed", counted.failed)):
        of_status = manifest.filter(_is(manifest, "status", status))
        for reason, count in reasons.items():
            rows = of_status.filter(_is(of_status, "reason", reason))
            rows = rows.filter(pc.not_equal(rows.column("member"), ""))
            pictures = [made_picture(reader, row, columns) for row in _spread(rows, MOST_REJECTED)]
            entry = Rejected(
                reason=reason, made=status == "filtered", count=count, pictures=tuple(pictures)
            )
            found.append(entry)
    return tuple(found)


def _spread(rows: pa.Table, most: int) -> Sequence[dict[str, object]]:
    """Rows at equal distances through the manifest, which is sorted by level, class and key."""
    count = min(most, rows.num_rows)
    places = [index * rows.num_rows // count for index in range(count)]
    return list(rows.take(pa.array(places, pa.int64())).to_pylist())


def _is(table: pa.Table, column: str, value: object) -> pa.ChunkedArray:
    return pc.equal(table.column(column), pa.scalar(value))
