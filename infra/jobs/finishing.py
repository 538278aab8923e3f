"""Samples to image files beside the denoiser: decoded in groups, encoded by other threads.

On CUDA decoding runs on a stream and a thread of its own, so that it overlaps with the denoiser;
that thread is where the host waits for the device, once a group. On a CPU decoding takes the same
cores either way and is done at once.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from curriculum.data.decode import encode_image
from generators.backbones.base import Backbone
from generators.cache import ROWS
from generators.stopwatch import Stopwatch

K = TypeVar("K", bound=Hashable)
MAX_WAITING = 8
"""Groups under way; more would only fill memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageForm:
    """How images are stored: file extension, and the quality of JPEG (1..100)."""

    extension: Literal["png", "jpg"]
    jpeg_quality: int

    def encode(self, pixels: Tensor) -> bytes:
        """The file of one image, uint8 (C, H, W) on the CPU."""
        kind: Literal["png", "jpeg"] = "png" if self.extension == "png" else "jpeg"
        return encode_image(pixels.permute(1, 2, 0).numpy(), kind, self.jpeg_quality)


class Finisher(Generic[K]):
    """Turns samples into files. Use as a context manager.

    Args:
        backbone: whose decoder is used.
        form: of the files.
        pad: decode groups of one size only, so that a result does not depend on its neighbours.
        threads: that encode files.
    """

    def __init__(self, backbone: Backbone, form: ImageForm, *, pad: bool, threads: int) -> None:
        self._backbone, self._form, self._pad = backbone, form, pad
        self.watch = Stopwatch(torch.device("cpu"))
        self._group: list[tuple[K, Tensor]] = []
        self._waiting: deque[Future[list[tuple[K, Future[bytes] | None]]]] = deque()
        self._cuda = backbone.device.type == "cuda"
        self._stream = _new_stream(backbone.device) if self._cuda else None
        self._decoders = ThreadPoolExecutor(1, "decode")
        self._encoders = ThreadPoolExecutor(max(1, threads), "encode")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._decoders.shutdown(cancel_futures=kind is not None)
        self._encoders.shutdown(cancel_futures=kind is not None)

    def add(self, key: K, sample: Tensor) -> Iterator[tuple[K, bytes | None]]:
        """Takes a sample (C, h, w); yields what has become a file meanwhile.

        Yields:
            Key and file, or None where the sample or its image is not finite.
        """
        self._group.append((key, sample))
        if len(self._group) >= ROWS:
            self._start()
        yield from self._done(wait=len(self._waiting) > MAX_WAITING)

    def close(self) -> Iterator[tuple[K, bytes | None]]:
        """Yields all the rest."""
        if self._group:
            self._start()
        while self._waiting:
            yield from self._done(wait=True)

    def _start(self) -> None:
        group, self._group = self._group, []
        if self._stream is None:
            finished: Future[list[tuple[K, Future[bytes] | None]]] = Future()
            finished.set_result(self._finish(group))
            self._waiting.append(finished)
            return
        ready = torch.cuda.current_stream(self._backbone.device).record_event()
        self._waiting.append(self._decoders.submit(self._finish_aside, group, ready))

    def _finish_aside(
        self, group: list[tuple[K, Tensor]], ready: torch.cuda.Event
    ) -> list[tuple[K, Future[bytes] | None]]:
        """`_finish` on the stream of its own, once the samples are computed."""
        assert self._stream is not None
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            for _, sample in group:
                sample.record_stream(self._stream)  # or its memory could be used again too early
            return self._finish(group)

    @torch.inference_mode()
    def _finish(self, group: list[tuple[K, Tensor]]) -> list[tuple[K, Future[bytes] | None]]:
        """Decodes a group and hands its images to the encoders. Waits for the device."""
        with self.watch.time("decode"):
            samples = [sample for _, sample in group]
            if self._pad:
                samples += samples[-1:] * (ROWS - len(samples))
            pixels, finite = self._decode(torch.stack(samples))
        return [
            (key, self._encoders.submit(self._encode, image) if usable else None)
            for (key, _), image, usable in zip(group, pixels, finite, strict=False)
        ]

    def _decode(self, samples: Tensor) -> tuple[Tensor, list[bool]]:
        """uint8 images on the CPU, and which of them are finite; in halves when memory is short."""
        try:
            # A sample that is not finite would spoil its whole group in a half-precision decoder.
            finite = samples.flatten(1).isfinite().all(1)
            decoded = self._backbone.decode(samples.nan_to_num(0, 0, 0))
            finite &= decoded.flatten(1).isfinite().all(1)
            return to_bytes_range(decoded).cpu(), finite.tolist()
        except torch.OutOfMemoryError:
            if len(samples) == 1:
                raise
        if self._cuda:
            torch.cuda.empty_cache()
        halves = [self._decode(part) for part in samples.chunk(2)]
        return torch.cat([pixels for pixels, _ in halves]), [f for _, half in halves for f in half]

    def _encode(self, pixels: Tensor) -> bytes:
        with self.watch.time("encode"):
            return self._form.encode(pixels)

    def _done(self, *, wait: bool) -> Iterator[tuple[K, bytes | None]]:
        while self._waiting and (wait or _is_over(self._waiting[0])):
            for key, file in self._waiting.popleft().result():
                yield key, None if file is None else file.result()
            wait = False


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def _is_over(group: Future[list[tuple[K, Future[bytes] | None]]]) -> bool:
    return group.done() and all(file is None or file.done() for _, file in group.result())


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 0..255 to float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes_range(pixels: Tensor) -> Tensor:
    """[-1, 1] to uint8 0..255, rounded."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
