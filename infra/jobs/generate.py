"""Generates shards of synthetic images on the worker's device and writes them.

One engine runs through all shards of a job: it takes the next shard's requests while the last ones
of the shard before are still denoised, so that batches stay full. Decoding, image files and shards
are made beside it by other threads. On CUDA the thread of the engine never waits for the device.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from generators.program import Program
from generators.render import Renderer
from infra.jobs.account import Account
from infra.jobs.determinism import deterministic
from infra.jobs.finishing import Finisher, ImageForm
from infra.jobs.loaded import check_fingerprint, generator_fingerprint, load_generator
from infra.jobs.shard_work import (
    NOT_FINITE,
    GeneratedShard,
    GenerateShard,
    ShardWork,
    finished_shard,
)
from infra.jobs.sources import Sources, programs
from infra.storage.shards import ShardRef
from infra.workers.base import Progress, WorkerContext

Key = tuple[int, int]
"""A shard of the job, and the row of a request in it."""

PROGRESS_EVERY = 8
MAX_WRITING = 2
"""Finished shards in memory."""


def generate_shards(
    context: WorkerContext, shards: tuple[GenerateShard, ...]
) -> Generator[Progress, None, list[GeneratedShard]]:
    """Makes and stores shards that share all settings. Doing it twice changes nothing.

    A shard that is written stays: a job that is stopped loses only those it was at work on.
    """
    total = sum(len(shard.requests) for shard in shards)
    missing = tuple(shard for shard in shards if finished_shard(shard) is None)
    done = total - sum(len(shard.requests) for shard in missing)
    if missing:
        yield from _Making(context, missing).run(done, total)
    yield Progress(done=total, total=total)
    return [made for made in map(finished_shard, shards) if made is not None]


class _Making:
    """The shards of a job while they are made."""

    def __init__(self, context: WorkerContext, shards: tuple[GenerateShard, ...]) -> None:
        self.first, self.threads = shards[0], context.threads
        self.works = {index: ShardWork(shard=shard) for index, shard in enumerate(shards)}
        self.requests = {
            (index, row): request
            for index, work in self.works.items()
            for row, request in work.to_make()
        }
        self.padded = self.first.deterministic
        self.generator = load_generator(context, self.first.backbone)
        request = self.first.requests[0]
        found = generator_fingerprint(self.generator.backbone, request.guidance)
        check_fingerprint(found, request.backbone)
        self.engine = self.generator.engine(self.first.batch_size, pad=self.padded)
        self.form = ImageForm(extension=self.first.extension, jpeg_quality=self.first.jpeg_quality)
        self.writing: list[Future[ShardRef]] = []

    def run(self, done: int, total: int) -> Generator[Progress, None, None]:
        """Makes everything; all shards are on disk at its end.

        Args:
            done: images that were there before.
            total: images of the job.
        """
        backbone = self.generator.backbone
        row_seconds = self.generator.seconds_per_row(self.engine.max_batch_size)
        next_word = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(deterministic(self.padded))
            writer = stack.enter_context(ThreadPoolExecutor(1, "write"))
            sources = Sources(self.first.real_folder, self.sources(), backbone)
            stack.enter_context(sources)
            finisher: Finisher[Key] = Finisher(
                backbone, self.form, pad=self.padded, threads=self.threads
            )
            stack.enter_context(finisher)
            account = Account(self.engine, finisher.watch, row_seconds)
            copied = sum(len(work.shard.reused) for work in self.works.values())
            account.copied(copied)
            done += copied
            self._write_complete(writer, account)
            for (index, row), image, reason in self._images(sources, finisher):
                failed = reason if image is None else ""
                account.ended(self.requests[index, row], self.works[index].shard.name, failed)
                self.works[index].add(row, image, reason)
                self._write_complete(writer, account)
                done += 1
                if done % PROGRESS_EVERY == 0 and time.monotonic() >= next_word:
                    next_word = time.monotonic() + self.first.progress_seconds
                    yield Progress(done=done, total=total, gauge=account.gauge())
            for written in self.writing:
                account.written(written.result())
            yield Progress(done=done, total=total, gauge=account.gauge())

    def sources(self) -> Mapping[str, Mapping[str, Any]]:
        """Source key to its row, of all shards."""
        return {key: row for work in self.works.values() for key, row in work.shard.sources.items()}

    def _images(
        self, sources: Sources, finisher: Finisher[Key]
    ) -> Iterator[tuple[Key, bytes | None, str]]:
        """What came of each request: its file, or None and a reason code."""
        for key, request in self.requests.items():
            if request.image_guidance == 100:  # the real image itself: no network comes near it
                yield key, self.form.encode(sources.read(request.source_key)), ""
        for finished in self.engine.run(self._programs(sources)):
            index, row = finished.key
            self.works[index].calls[row] = finished.num_model_calls
            if finished.rejected is not None:
                yield finished.key, None, finished.rejected.reason
            elif finished.value is not None:
                for key, image in finisher.add(finished.key, finished.value):
                    yield key, image, NOT_FINITE
        for key, image in finisher.close():
            yield key, image, NOT_FINITE

    def _programs(self, sources: Sources) -> Iterator[tuple[Key, Program[Tensor]]]:
        encoder = self.generator.encoder(self.first.cache_bytes, pad=self.padded)
        requests = (item for item in self.requests.items() if item[1].image_guidance < 100)
        renderer = Renderer(self.generator.backbone, self.first.class_names, self.first.prompt)
        made = programs(requests, sources, encoder, renderer)
        while True:
            with self.engine.watch.time("sources"):
                program = next(made, None)
            if program is None:
                return
            yield program

    def _write_complete(self, writer: ThreadPoolExecutor, account: Account) -> None:
        """Hands complete shards to the writing thread; its errors are raised here."""
        for index in [index for index, work in self.works.items() if work.missing == 0]:
            work = self.works.pop(index)
            cost = account.close(sum(work.calls.values()))
            self.writing.append(writer.submit(work.write, cost))
        while len(self.writing) > MAX_WRITING or (self.writing and self.writing[0].done()):
            account.written(self.writing.pop(0).result())
