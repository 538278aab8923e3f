"""What the engine loses against bare networks, and gains over what its users would do otherwise.

`python -m benchmarks.engine` measures everything (alone on the machine, about half an hour) and
writes `benchmarks/results/engine.json`; `--resume` goes on with an interrupted run. `--quick` takes
less than a minute and only shows that everything works: its numbers are of short runs.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.engine_parts.cases import Subject, engine_over_bare, mean_batch_fill
from benchmarks.engine_parts.effort import FULL, QUICK, Effort
from benchmarks.engine_parts.measure import Measurement, Results
from benchmarks.engine_parts.memory import MemoryRun, memory_run
from benchmarks.engine_parts.models import (
    LARGE,
    TINY,
    LatentModel,
    backbone_spec,
    load_pipeline,
    save_model,
)
from benchmarks.engine_parts.ours import load
from benchmarks.engine_parts.tables import last_line, results_table
from benchmarks.engine_parts.together import (
    BareProcess,
    actors,
    generating,
    two_actors_over_two_processes,
)
from benchmarks.engine_parts.versus import over_diffusers, over_discl_loop
from generators.backbones.base import Backbone
from generators.registry import MethodSpec
from infra.machine import describe_machine, describe_versions
from infra.workers.base import Worker

OUTPUT = Path(__file__).parent / "results" / "engine.json"
FEW_STEPS = 4
THREADS = 1
Case = Callable[[], Mapping[str, Measurement]]


class Bench:
    """Models in a folder, loaded once, and the cases that use them."""

    def __init__(self, effort: Effort, folder: Path) -> None:
        self.effort, self.folder = effort, folder
        self._subjects: dict[str, Subject] = {}
        self._models = {model.name: (model, save_model(model, folder)) for model in (TINY, LARGE)}
        self._memory: MemoryRun | None = None
        self._bare: list[BareProcess] | None = None
        self._stack = ExitStack()
        self._thread = ThreadPoolExecutor(1)
        self._actors: Future[list[Worker]] | None = None

    def close(self) -> None:
        """Ends the actors, if they were started."""
        self._thread.shutdown()
        self._stack.close()

    def _start_beside(self) -> None:
        """In a quick run, what takes long to start does so beside the cases that follow."""
        if self.effort.beside:
            self._memory, self._bare = self._memory_run(), self._bare_processes()
            workers = self._start_actors()  # Ray ends slowly when another thread has started it
            self._actors = self._thread.submit(self._warmed, workers)

    def _start_actors(self) -> list[Worker]:
        return self._stack.enter_context(actors(2))

    def _warmed(self, workers: list[Worker]) -> list[Worker]:
        """Actors that have loaded the network."""
        spec, size = backbone_spec(self._models["large"][1]), middle(self.effort.large_batches)
        generating(0.1, workers, spec, size, self.effort.steps)
        return workers

    def subject(self, name: str) -> Subject:
        """A model, loaded on both sides."""
        if name not in self._subjects:
            model, folder = self._models[name]
            self._subjects[name] = self._load(model, folder)
        return self._subjects[name]

    def _load(self, model: LatentModel, folder: Path) -> Subject:
        large = model.name == "large"
        spec = backbone_spec(folder)
        return Subject(
            name=model.name,
            spec=spec,
            backbone=load(spec),
            compiled=self._compiled(folder),
            pipeline=load_pipeline(folder),
            image_size=model.image_size,
            sources=self.effort.sources[0 if large else 1],
            job_sources=self.effort.job_sources[0 if large else 1],
            loop_sources=self.effort.loop_sources[0 if large else 1],
            batches=self.effort.large_batches if large else self.effort.tiny_batches,
        )

    def _compiled(self, folder: Path) -> tuple[MethodSpec, Backbone] | None:
        """Compiling takes longer than a whole quick run."""
        if not self.effort.thorough:
            return None
        plain = backbone_spec(folder)
        params = {**plain.params, "runtime": {"compile": "full"}}
        spec = MethodSpec(name=plain.name, params=params)
        return spec, load(spec)

    def _bare_processes(self) -> list[BareProcess]:
        spec = backbone_spec(self._models["large"][1])
        return [BareProcess(spec, middle(self.effort.large_batches)) for _ in range(2)]

    def _memory_run(self) -> MemoryRun:
        model, folder = self._models["tiny"]
        return memory_run(folder, model.image_size, self.effort)

    def cases(self) -> dict[str, Case]:
        """By name, in the order they are measured."""
        effort, loops = self.effort, self.folder / "loops"
        found: dict[str, Case] = {
            "engine_over_bare_tiny": self._engine_tiny,
            "engine_over_bare_large": self._engine_large,
            "mean_batch_fill": lambda: {"mean_batch_fill": mean_batch_fill(effort)},
            "few_step": self._few_step,
        }
        for name in ("tiny", "large"):
            found[f"diffusers_{name}"] = partial(self._diffusers, name)
            found[f"discl_loop_{name}"] = partial(self._discl_loop, name, loops)
        return found | {"two_actors": self._two_actors, "memory_growth": self._memory_growth}

    def _engine_tiny(self) -> dict[str, Measurement]:
        effort = self.effort
        batches, sources = (effort.embedded_batch,), effort.engine_sources[1]
        measured = engine_over_bare(embedded(), batches, sources, effort)
        return {"engine_over_bare_tiny": measured}

    def _engine_large(self) -> dict[str, Measurement]:
        subject, sources = self.subject("large"), self.effort.engine_sources[0]
        measured = engine_over_bare(subject.backbone, subject.batches, sources, self.effort)
        return {"engine_over_bare_large": measured}

    def _few_step(self) -> dict[str, Measurement]:
        self._start_beside()
        found = over_diffusers(self.subject("tiny"), self.effort, FEW_STEPS)
        return {f"{name}_few_step": measured for name, measured in found.items()}

    def _diffusers(self, name: str) -> dict[str, Measurement]:
        return named(over_diffusers(self.subject(name), self.effort, self.effort.steps), name)

    def _discl_loop(self, name: str, folder: Path) -> dict[str, Measurement]:
        subject = self.subject(name)
        size = middle(subject.batches)
        return named(over_discl_loop(subject, size, self.effort, folder), name)

    def _two_actors(self) -> dict[str, Measurement]:
        spec, size = backbone_spec(self._models["large"][1]), middle(self.effort.large_batches)
        bare = self._bare or self._bare_processes()
        workers = self._actors.result() if self._actors else self._start_actors()
        measured = two_actors_over_two_processes(bare, workers, spec, size, self.effort)
        return {"two_actors_over_two_processes": measured}

    def _memory_growth(self) -> dict[str, Measurement]:
        return {"memory_growth": (self._memory or self._memory_run()).result()}


def middle(sizes: Sequence[int]) -> int:
    """The batch size that is used where none is searched for."""
    return sorted(sizes)[len(sizes) // 2]


def embedded() -> Backbone:
    """The generator that ships with the package: 8x8 pixels."""
    return load(MethodSpec(name="pixel_unet", params={"path": "handwriting"}))


def named(found: Mapping[str, Measurement], suffix: str) -> dict[str, Measurement]:
    """Measurements of one model."""
    return {f"{name}_{suffix}": measurement for name, measurement in found.items()}


def quiet() -> None:
    """No progress bars and advice of libraries; no network; one thread, also of what is started."""
    os.environ.update(
        HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", OMP_NUM_THREADS=str(THREADS)
    )
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, nothing is written")
    parser.add_argument("--resume", action="store_true", help="go on with the results' file")
    parser.add_argument("--output", type=Path, help=f"default: {OUTPUT}; with --quick none")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone")
    asked = parser.parse_args()
    quiet()
    effort = QUICK if asked.quick else FULL
    facts = {
        "effort": asdict(effort),
        "clock": effort.clock.__name__,
        "torch_threads": THREADS,
        "dtype": "float32",
        "models": [asdict(TINY), asdict(LARGE)],
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    output = asked.output or (None if asked.quick else OUTPUT)
    results = Results(output, facts, resume=asked.resume)
    log = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(effort, Path(folder))
        try:
            for name, case in bench.cases().items():
                if asked.only and name not in asked.only:
                    continue
                log.print(f"{name} ...")
                results.case(name, case)
                log.print(f"{name}: {results.data['cases'][name]['seconds']:.1f} s")
        finally:
            bench.close()
    Console(width=None if sys.stdout.isatty() else 120).print(results_table(results.measurements))
    if not asked.only:
        print(last_line(results.measurements))


if __name__ == "__main__":
    main()
