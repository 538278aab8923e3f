"""How a worker's memory grows over a long run: peaks of its resident set, in a process of its own.

`python -m benchmarks.engine_parts.memory ORDER` does the run: the generating job, shard by shard.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine_parts.effort import Effort
from benchmarks.engine_parts.measure import Measurement, compared
from benchmarks.engine_parts.workload import ALL_LEVELS, Recipe, requests_for, write_pictures
from benchmarks.peak import peak_bytes
from infra.workers.base import Progress, WorkerContext
from infra.workers.local import LocalWorker

PER_SHARD = 100
SHARDS_A_JOB = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the process is to do.

    Attributes:
        model_folder: of the latent model.
        image_size: side, pixels.
        images: of the run.
        before: images after which growth is counted.
        steps: of the full schedule.
        batch_size: rows.
    """

    model_folder: str
    image_size: int
    images: int
    before: int
    steps: int
    batch_size: int


class MemoryRun:
    """The process that makes the images, started at once."""

    def __init__(self, order: Order) -> None:
        self._order = order
        command = [sys.executable, "-m", __spec__.name, json.dumps(asdict(order))]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def result(self) -> Measurement:
        """Waits for its end.

        Raises:
            RuntimeError: it failed; what it said stands on the error stream.
        """
        text, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("the memory run failed")
        found = json.loads(text.splitlines()[-1])
        growth = found["peak_bytes"] / found["peak_bytes_before"] - 1
        return compared(
            [growth],
            f"peak resident set of a process over the generating job for {self._order.images} "
            f"images (tiny latent model, ten levels, {PER_SHARD} images a shard), over its peak "
            f"after {self._order.before} images, minus one",
            **asdict(self._order),
            **found,
        )


def memory_run(folder: Path, image_size: int, effort: Effort) -> MemoryRun:
    """Starts the process."""
    return MemoryRun(
        Order(
            model_folder=str(folder),
            image_size=image_size,
            images=effort.memory_images,
            before=effort.memory_before,
            steps=effort.memory_steps,
            batch_size=max(effort.tiny_batches),
        )
    )


def run(order: Order, folder: Path) -> dict[str, Any]:
    """Makes the images; peaks at the moment `before` is reached, at each job's end, at the end."""
    from benchmarks.engine_parts.models import backbone_spec
    from benchmarks.engine_parts.ours import base_shard, ingest, load, shards_of
    from infra.jobs.generate import generate_shards

    spec = backbone_spec(Path(order.model_folder))
    write_pictures(folder / "in", 0, order.images // len(ALL_LEVELS), order.image_size)
    rows = ingest(folder / "in", order.image_size, folder / "real")
    recipe = Recipe(levels=ALL_LEVELS, steps=order.steps, guidance_scale=10.0)
    requests = requests_for(sorted(rows), recipe, load(spec))
    base = base_shard(spec, order.batch_size, folder, rows)
    shards = shards_of("shard", requests, PER_SHARD, base)
    worker = LocalWorker(WorkerContext(device="cpu", threads=1))
    peaks: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        peaks.append((done + progress.done, peak_bytes()))

    done = 0
    for start in range(0, len(shards), SHARDS_A_JOB):
        job = shards[start : start + SHARDS_A_JOB]
        worker.run(generate_shards, job, on_progress=note)
        done += sum(len(shard.requests) for shard in job)
    before = max(peak for at, peak in peaks if at <= order.before)
    return {
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
        "peaks": peaks[:: max(1, len(peaks) // 40)],
    }


def main() -> None:
    """One run, its result as the last line."""
    import torch

    torch.set_num_threads(1)
    order = Order(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(order, Path(folder))))


if __name__ == "__main__":
    main()
