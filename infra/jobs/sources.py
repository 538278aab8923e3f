"""Programs of requests: sources read ahead by a thread, sources and prompts encoded once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.cache import Encoder
from generators.places import Place
from generators.program import Program
from generators.records import GenerationRequest
from generators.render import Job, Renderer
from generators.transfer import to_device
from infra.jobs.finishing import to_unit_range
from infra.jobs.images import form_of, read_pixels
from infra.storage.reader import hashes_of
from infra.storage.shards import ShardReader

K = TypeVar("K")
CHUNK = 32
"""Requests looked at together."""


class Sources:
    """Real images as a backbone wants them. Use as a context manager.

    Args:
        folder: of the real shards.
        rows: source key to its row: shard, offset, size.
        backbone: whose image size and channels they get.
    """

    def __init__(
        self, folder: Place, rows: Mapping[str, Mapping[str, Any]], backbone: Backbone
    ) -> None:
        self._form = form_of(backbone)
        self._device, self._rows = backbone.device, rows
        self._reader = ShardReader(folder, sha256=hashes_of(rows.values()))
        self._thread = ThreadPoolExecutor(1, "read")
        self._ahead: dict[str, Future[Tensor]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._reader.close()

    def read(self, key: str) -> Tensor:
        """One image, uint8 (C, H, W) on the CPU."""
        ahead = self._ahead.pop(key, None)
        return self._read(key) if ahead is None else ahead.result()

    def read_ahead(self, keys: Iterable[str]) -> None:
        """Has a thread read what will be asked for next."""
        for key in keys:
            if key not in self._ahead:
                self._ahead[key] = self._thread.submit(self._read, key)

    def batch(self, keys: Sequence[str]) -> Tensor:
        """(N, C, H, W) in [-1, 1] on the device."""
        pixels = torch.stack([self.read(key) for key in keys])
        return to_unit_range(to_device(pixels, self._device))

    def _read(self, key: str) -> Tensor:
        return read_pixels(self._reader, dict(self._rows[key]), self._form)


def programs(
    requests: Iterable[tuple[K, GenerationRequest]],
    sources: Sources,
    encoder: Encoder,
    renderer: Renderer,
) -> Iterator[tuple[K, Program[Tensor]]]:
    """One program a request, made when it is drawn."""
    rest = iter(requests)
    part = list(islice(rest, CHUNK))
    while part:
        following = list(islice(rest, CHUNK))
        sources.read_ahead(encoder.lacking([request.source_key for _, request in following]))
        asked = [request for _, request in part]
        keys = [request.source_key for request in asked]
        encoded = encoder.encode(keys, sources.batch)
        conds = encoder.condition([r.prompt for r in asked], [r.class_name for r in asked])
        inputs = [request.image_inputs for request in asked]
        images = encoder.image_condition(keys, inputs, sources.batch)
        for (key, request), source, cond, image in zip(part, encoded, conds, images, strict=True):
            job = Job(request=request, source=source, cond=cond, image=image)
            yield key, renderer.program(job)
        part = following
