"""Seconds by stage, without making the host wait for the device."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the seconds of named stages. One thread measures, any thread may look.

    On CUDA a stage that launches kernels is timed by events on the device, which are read once
    they have passed; nothing waits for them. Elsewhere by the clock.

    Args:
        device: where the stages of `device_time` run.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._pending: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Host seconds of the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    @contextmanager
    def device_time(self, stage: str) -> Iterator[None]:
        """Seconds the device spends on what the block launches on the current stream."""
        if not self._cuda:
            with self.time(stage):
                yield
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        yield
        end.record()
        self._pending.append((stage, begin, end))
        self._read_passed()

    def add(self, stage: str, seconds: float) -> None:
        """Seconds that were measured elsewhere."""
        with self._lock:
            self._seconds[stage] += seconds

    def seconds(self) -> Mapping[str, float]:
        """Stage to seconds so far; on CUDA without what has not passed yet."""
        with self._lock:
            return dict(self._seconds)

    def _read_passed(self) -> None:
        while self._pending and self._pending[0][2].query():  # type: ignore[no-untyped-call]
            stage, begin, end = self._pending.popleft()
            self.add(stage, begin.elapsed_time(end) / 1000)
