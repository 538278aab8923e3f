"""How much is measured: in full, or quickly to see that everything works."""

import time
from dataclasses import dataclass

from benchmarks.engine_parts.measure import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of everything.

    Attributes:
        name: `full` or `quick`.
        steps: of the full schedule.
        repetitions: of every comparison.
        engine_sources: sources of a run of the engine alone; large and tiny model.
        sources: sources of a comparison of images/s; large and tiny model.
        job_sources: sources of a comparison with DisCL's loop, our side; large and tiny model.
        loop_sources: the same of the loop itself, one image a call; large and tiny model.
        large_batches: batch sizes to choose from, rows; the pipeline's are half of them, images.
        tiny_batches: the same for small rows.
        embedded_batch: rows, of the embedded generator.
        fill_images: images of the run that measures how full batches are.
        fill_batches: batch sizes of such runs, rows.
        window_seconds: how long two processes work side by side.
        memory_images: images of the memory run.
        memory_before: images after which its growth is counted.
        memory_steps: steps of the memory run's schedule.
        beside: load the processes and make the memory run beside other cases, and count CPU
            seconds of this process, which that disturbs less, instead of the clock's.
        thorough: also measure compiled networks, and what not making seven of ten levels saves.
    """

    name: str
    steps: int
    repetitions: int
    engine_sources: tuple[int, int]
    sources: tuple[int, int]
    job_sources: tuple[int, int]
    loop_sources: tuple[int, int]
    large_batches: tuple[int, ...]
    tiny_batches: tuple[int, ...]
    embedded_batch: int
    fill_images: int
    fill_batches: tuple[int, ...]
    window_seconds: float
    memory_images: int
    memory_before: int
    memory_steps: int
    beside: bool
    thorough: bool

    @property
    def clock(self) -> Clock:
        """What comparisons in this process are timed by."""
        return time.process_time if self.beside else time.perf_counter


FULL = Effort(
    name="full",
    steps=50,
    repetitions=5,
    engine_sources=(10, 120),
    sources=(6, 48),
    job_sources=(3, 40),
    loop_sources=(1, 3),
    large_batches=(8, 16, 32),
    tiny_batches=(16, 32, 64, 96),
    embedded_batch=64,
    fill_images=520,
    fill_batches=(8, 16, 32, 64, 128),
    window_seconds=12.0,
    memory_images=2000,
    memory_before=200,
    memory_steps=20,
    beside=False,
    thorough=True,
)
QUICK = Effort(
    name="quick",
    steps=10,
    repetitions=1,
    engine_sources=(4, 24),
    sources=(2, 12),
    job_sources=(1, 6),
    loop_sources=(1, 1),
    large_batches=(8,),
    tiny_batches=(32,),
    embedded_batch=64,
    fill_images=510,
    fill_batches=(64,),
    window_seconds=2.0,
    memory_images=300,
    memory_before=100,
    memory_steps=10,
    beside=True,
    thorough=False,
)
