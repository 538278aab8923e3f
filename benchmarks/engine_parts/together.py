"""Two processes at work at the same time: Ray actors that generate, bare processes that do not.

Both kinds keep their network loaded and wait; then they are told, in turns, to work in the same
window of time. A bare process is `python -m benchmarks.engine_parts.together SPEC BATCH`: it reads
a window a line, evaluates full batches, and answers with a rate a line.
"""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.engine_parts.effort import Effort
from benchmarks.engine_parts.measure import Measurement, compared, ratios, summary
from benchmarks.engine_parts.ours import bare_inputs, load, ready_programs
from benchmarks.engine_parts.workload import READ_LEVELS, Recipe, requests_for
from generators.backbones.base import Backbone
from generators.engine import Engine
from generators.program import Program
from generators.registry import MethodSpec
from infra.jobs.loaded import load_generator
from infra.workers.base import Progress, Worker, WorkerContext

T = TypeVar("T")
LEAD_SECONDS = 0.3
"""From the order to the start of the window."""

GUIDANCE_SCALE = 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of the clock's time, seconds since the epoch."""

    begin: float
    end: float

    def wait(self) -> None:
        """Until it begins."""
        time.sleep(max(0.0, self.begin - time.time()))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return time.time() >= self.end


class WindowOver(Exception):
    """Ends a run of the engine."""


def next_window(seconds: float) -> Window:
    """One that begins soon."""
    begin = time.time() + LEAD_SECONDS
    return Window(begin=begin, end=begin + seconds)


def within(window: Window, program: Program[T]) -> Program[T]:
    """A program that stops the whole run when the window is over."""
    answers: Any = None
    while True:
        try:
            calls = program.send(answers)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if window.over:
            raise WindowOver
        answers = yield calls


def engine_rate(backbone: Backbone, batch_size: int, steps: int, window: Window) -> float:
    """Evaluations a second of an engine that is busy during the whole window."""
    recipe = Recipe(levels=READ_LEVELS, steps=steps, guidance_scale=GUIDANCE_SCALE)
    requests = requests_for([f"source-{i}" for i in range(64)], recipe, backbone)
    engine = Engine(backbone, batch_size)

    def endless() -> Iterator[tuple[int, Program[Tensor]]]:
        for lap in count():
            for key, program in ready_programs(backbone, requests):
                yield lap * len(requests) + key, within(window, program)

    made = endless()
    window.wait()
    started = time.perf_counter()
    try:
        for _ in engine.run(made):
            pass
    except WindowOver:
        pass
    return engine.stats.num_model_calls / (time.perf_counter() - started)


@torch.inference_mode()
def bare_rate(backbone: Backbone, batch_size: int, window: Window) -> float:
    """Evaluations a second of forward passes of full batches."""
    x_t, timesteps, cond = bare_inputs(backbone, batch_size)
    rows = 0
    window.wait()
    started = time.perf_counter()
    while not window.over:
        backbone.forward(x_t, timesteps, cond)
        rows += batch_size
    return rows / (time.perf_counter() - started)


def engine_job(
    context: WorkerContext, spec: MethodSpec, batch_size: int, steps: int, window: Window
) -> Generator[Progress, None, float]:
    """`engine_rate` as a job of a worker."""
    yield Progress(done=0, total=1)
    return engine_rate(load_generator(context, spec).backbone, batch_size, steps, window)


class BareProcess:
    """A plain subprocess with one thread and a loaded network."""

    def __init__(self, spec: MethodSpec, batch_size: int) -> None:
        command = [sys.executable, "-m", __spec__.name, json.dumps(spec.as_json()), str(batch_size)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def rate(self, window: Window) -> float:
        """Evaluations a second in a window.

        Raises:
            RuntimeError: the process ended; what it said stands on the error stream.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(window.begin, window.end, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a bare process ended too early")
        return float(answer)

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@contextmanager
def actors(number: int) -> Iterator[list[Worker]]:
    """Ray actors with one thread each, as a run makes them; all leased."""
    from infra.workers.layout import GroupSpec
    from infra.workers.ray_pool import RayPool, RayPoolSpec

    pool = RayPool(RayPoolSpec(groups=[GroupSpec(count=number, threads=1)]))
    try:
        with ExitStack() as leases:
            yield [leases.enter_context(pool.lease()) for _ in range(number)]
    finally:
        pool.close()


def generating(
    seconds: float, workers: Sequence[Worker], spec: MethodSpec, batch_size: int, steps: int
) -> float:
    """Evaluations a second, summed, of workers that run the engine for so long at the same time."""
    window = next_window(seconds)
    with ThreadPoolExecutor(len(workers)) as threads:
        jobs = [
            threads.submit(
                worker.run,
                engine_job,
                spec,
                batch_size,
                steps,
                window,
                on_progress=lambda _: None,
            )
            for worker in workers
        ]
        rates: list[float] = [job.result() for job in jobs]
    return sum(rates)


def two_actors_over_two_processes(
    bare: Sequence[BareProcess],
    workers: Sequence[Worker],
    spec: MethodSpec,
    batch_size: int,
    effort: Effort,
) -> Measurement:
    """Summed evaluations/s of two generating actors over two bare processes'.

    Args:
        bare: the processes, of the same network and batch size; ended here.
        workers: two actors.
        spec: of the network.
        batch_size: rows.
        effort: how much is measured.
    """
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        for process in bare:
            stack.callback(process.close)

        def plain(seconds: float, used: Sequence[BareProcess]) -> float:
            window = next_window(seconds)
            rates: list[float] = list(threads.map(lambda process: process.rate(window), used))
            return sum(rates)

        plain(0.1, bare)  # loads and warms up
        job = (spec, batch_size, effort.steps)
        generating(0.1, workers, *job)
        rates: dict[str, list[float]] = {"actors": [], "processes": []}
        for _ in range(effort.repetitions):
            rates["actors"].append(generating(effort.window_seconds, workers, *job))
            rates["processes"].append(plain(effort.window_seconds, bare))
        alone = {}
        if not effort.beside:
            alone["actor"] = generating(effort.window_seconds, workers[:1], *job)
            alone["process"] = plain(effort.window_seconds, bare[:1])
    return compared(
        ratios(rates["actors"], rates["processes"]),
        "evaluations/s, summed, of two Ray actors that run the engine over two plain processes' "
        "on backbone.forward with full batches; one thread each, windows of time of equal length",
        batch_size=batch_size,
        steps=effort.steps,
        window_seconds=effort.window_seconds,
        evaluations_per_second={name: summary(values) for name, values in rates.items()},
        evaluations_per_second_alone=alone,
    )


def main() -> None:
    """A bare process."""
    torch.set_num_threads(1)
    params = json.loads(sys.argv[1])
    backbone = load(MethodSpec(name=params.pop("name"), params=params))
    with torch.inference_mode():
        backbone.forward(*bare_inputs(backbone, int(sys.argv[2])))
    for line in sys.stdin:
        begin, end = map(float, line.split())
        print(bare_rate(backbone, int(sys.argv[2]), Window(begin=begin, end=end)), flush=True)


if __name__ == "__main__":
    main()
