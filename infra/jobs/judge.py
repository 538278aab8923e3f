"""Scores one shard of synthetic images with a judge, and decides which are kept.

Scores go to a file of their own: shards are never rewritten.
"""

import logging
from collections.abc import Generator
from dataclasses import dataclass

import pyarrow as pa
import torch

from generators.filters.base import Judge, JudgeContext
from generators.local_copies import local_copy
from generators.places import Place, file_exists
from generators.registry import MethodSpec, build, content_hash
from infra.jobs.images import PixelFormat, read_pixels
from infra.storage.atomic import write_table
from infra.storage.reader import hashes_of
from infra.storage.shards import ShardReader, read_rows
from infra.workers.base import Progress, WorkerContext

BATCH = 256
LOG = logging.getLogger("discl.judge")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeShard:
    """A shard to be scored.

    Attributes:
        name: of the shard.
        judge: which judge.
        class_names: of the data set.
        classifier: the run's own real-data classifier, and the hash of its training.
        classifier_hash: changes when the classifier does.
        folder: of the synthetic shards.
        real_folder: of the real ones.
        sources: source key to its row: shard, offset, size.
        form: of the images.
        scores: folder of the scores.
    """

    name: str
    judge: MethodSpec
    class_names: tuple[str, ...]
    classifier: Place | None
    classifier_hash: str
    folder: Place
    real_folder: Place
    sources: dict[str, dict[str, object]]
    form: PixelFormat
    scores: Place

    @property
    def path(self) -> Place:
        """Where the scores go: the same shard, judge and classifier, the same file."""
        return score_path(self.scores, self.name, self.judge, self.classifier_hash)


def score_path(scores: Place, shard: str, judge: MethodSpec, classifier_hash: str) -> Place:
    """Where the scores of a shard are."""
    digest = content_hash([judge.as_json(), classifier_hash], 16)
    return scores / f"{shard}-{digest}.parquet"


def judge_shard(context: WorkerContext, shard: JudgeShard) -> Generator[Progress, None, Place]:
    """Writes one row an image: key, scores, and `refused`, a reason code or empty."""
    rows = [row for row in read_rows(shard.folder, shard.name).to_pylist() if row["member"]]
    if file_exists(shard.path):
        yield Progress(done=len(rows), total=len(rows))
        return shard.path
    judge: Judge = build("filter", shard.judge, "filter.judges")
    classifier = local_copy(shard.classifier) if shard.classifier else None
    setting = JudgeContext(
        class_names=shard.class_names, classifier=classifier, device=context.device
    )
    key = content_hash([shard.judge.as_json(), shard.classifier_hash])
    loaded = context.keep("judge", key, lambda: judge.load(setting))
    made = ShardReader(shard.folder, sha256=hashes_of(rows))
    real = ShardReader(shard.real_folder, sha256=hashes_of(shard.sources.values()))
    scored: dict[str, list[float]] = {name: [] for name in judge.columns}
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        pixels = torch.stack([read_pixels(made, row, shard.form) for row in part])
        sources = torch.stack(
            [read_pixels(real, dict(shard.sources[r["source_key"]]), shard.form) for r in part]
        )
        labels = torch.tensor([row["label"] for row in part])
        for name, values in loaded.score(pixels, sources, labels).items():
            scored[name] += [float(value) for value in values]
        yield Progress(done=min(start + BATCH, len(rows)), total=len(rows))
    refused = [
        judge.refuse({name: values[i] for name, values in scored.items()}) for i in range(len(rows))
    ]
    for row, reason in zip(rows, refused, strict=True):
        if reason:
            about = {"shard": shard.name, "request": row["key"]}
            LOG.info("image refused: %s", reason, extra=about)
    columns: dict[str, object] = {"key": pa.array([row["key"] for row in rows], pa.string())}
    columns |= {name: pa.array(values, pa.float64()) for name, values in scored.items()}
    columns["refused"] = pa.array(refused, pa.string())
    write_table(shard.path, pa.table(columns))
    return shard.path
