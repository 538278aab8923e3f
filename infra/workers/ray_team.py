"""Several Ray workers that run one job together: Ray Train starts them and their process group.

A conductor, an actor without resources of its own, runs `TorchTrainer` and passes on what the first
worker says, so that a team is followed as any worker is. All that Ray Train starts belongs to it
and ends with it. Checkpoints and retries are the job's and its caller's, not Ray Train's.
"""

import os
import queue
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curriculum.team import Team
from generators.errors import DisclError
from infra.errors import WorkerError, WorkerLost
from infra.logs import LogOrigin, concerning, start_logging
from infra.workers.base import Job, Progress, WorkerContext
from infra.workers.environment import adopt
from infra.workers.layout import Layout
from infra.workers.ray_metrics import RayRecorder, counted
from infra.workers.ray_spec import RayPoolSpec
from infra.workers.ray_start import leaving_nodes, ray
from infra.workers.ray_worker import FIRST_SECONDS, Begun, Done

ALWAYS: Final = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # jobs run in the driver's folder
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
"""Ray Train's own switches, which it reads in the process that calls it."""

END_SECONDS: Final = 30
"""For Ray Train to give back the places of workers that were killed."""

COMMUNICATION: Final = ("gloo", "nccl", "connection closed by peer")
"""Words in what torch raises when another process is gone or cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamSpec:
    """What a team is made of.

    Attributes:
        size: workers.
        layout: each worker's.
        pool: whose they are.
        folder: the driver's.
    """

    size: int
    layout: Layout
    pool: RayPoolSpec
    folder: str

    @property
    def on_gpus(self) -> bool:
        """Whether networks run there: no other device but the CPU is shared."""
        return self.layout.device != "cpu" and self.layout.num_gpus > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What a worker of a team is told."""

    spec: TeamSpec
    job: Job[Any]
    args: tuple[Any, ...]
    about: LogOrigin


class Conductor:
    """Lives in a Ray process. Streams as `Actor` does; meanwhile its team calls it.

    Args:
        spec: of the team.
    """

    def __init__(self, spec: TeamSpec) -> None:
        os.environ.update(ALWAYS)
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(spec.pool.wait_seconds)
        self._spec = spec
        # What the team says; at the end None, or what Ray Train ended with.
        self._said: queue.SimpleQueue[Progress | Done | Begun | BaseException | None]
        self._said = queue.SimpleQueue()
        self._nodes: dict[int, str] = {}
        self._workers: list[Any] = []
        self._errors: dict[int, Exception] = {}
        self._fitting = threading.Thread()

    def stream(
        self, job: Job[Any], args: tuple[Any, ...], about: LogOrigin
    ) -> Iterator[Progress | Done | Begun]:
        """The progress of the first worker's job, then its value, when all have ended."""
        self._part = _Part(spec=self._spec, job=job, args=args, about=about)
        self._nodes, self._workers, self._errors = {}, [], {}
        conductor = ray.get_runtime_context().current_actor
        self._fitting = threading.Thread(target=self._fit, args=(conductor,))
        self._fitting.start()
        done = None
        while isinstance(item := self._said.get(), Progress | Done | Begun):
            if isinstance(item, Done):
                done = item
            else:
                yield item
        if done is None:
            raise self._reason(item) from item
        yield done

    def join(self, rank: int, node: str, worker: Any) -> _Part:
        """Called by each worker as it begins."""
        self._nodes[rank] = node
        self._workers.append(worker)
        if len(self._nodes) == self._spec.size:
            self._said.put(Begun())
        return self._part

    def tell(self, item: Progress | Done) -> None:
        """Called by the first worker."""
        self._said.put(item)

    def fail(self, rank: int, error: Exception) -> None:
        """Called by a worker whose job ended with an error."""
        self._errors[rank] = error

    def end(self) -> None:
        """Ends a job that is at work still. Ray Train gives its places back, if it is let.

        Killed with this actor, it would keep them for as long as the driver lives: what cleans up
        after it asks Ray's dashboard, which may not be there.
        """
        for worker in self._workers:
            ray.kill(worker)
        if self._fitting.ident is not None:
            self._fitting.join(END_SECONDS)

    def _fit(self, conductor: Any) -> None:
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                _trainer(self._spec, conductor, folder).fit()
        except BaseException as error:
            self._said.put(error)
        else:
            self._said.put(None)

    def _reason(self, error: BaseException | None) -> BaseException:
        """Why there is no value: a worker's death, else an error of the job, else of the team."""
        from ray.train import TrainingFailedError, WorkerGroupError

        if error is not None and not isinstance(error, TrainingFailedError):
            return error
        failed = set(error.worker_failures) if isinstance(error, WorkerGroupError) else set()
        dead = failed - self._errors.keys()
        jobs_own = [self._errors[rank] for rank in sorted(self._errors)]
        jobs_own = [each for each in jobs_own if not _is_of_communication(each)]
        if jobs_own and not dead:
            ours = (each for each in jobs_own if isinstance(each, DisclError | OSError))
            return next(ours, jobs_own[0])
        text = " ".join(str(error).split())[:300]
        if {self._nodes.get(rank) for rank in range(self._spec.size)} & leaving_nodes():
            return WorkerLost(f"a worker of a team was lost with its machine: {text}")
        return WorkerError(f"a worker of a team died: {text}")


def start_conductor(spec: TeamSpec) -> Any:
    """The conductor of a team, on the driver's machine; its workers start with its first job."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    calls = 2 * spec.size + 3  # one streams and one ends, while each worker calls
    options = {"num_cpus": 0, "max_concurrency": calls, "scheduling_strategy": here}
    return ray.remote(Conductor).options(**options).remote(spec)


def end_actors(
    workers: Iterable[Any], conductors: Sequence[Any] = (), seconds: float = END_SECONDS
) -> None:
    """Ends workers, and teams; gives the teams' places back if that does not take too long."""
    for worker in workers:
        ray.kill(worker)
    with suppress(RayError):  # of one that is gone
        if ending := [conductor.end.remote() for conductor in conductors]:
            ray.wait(ending, num_returns=len(ending), timeout=seconds)
    for conductor in conductors:
        ray.kill(conductor)


def _trainer(spec: TeamSpec, conductor: Any, folder: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    layout = spec.layout
    resources = {"CPU": layout.num_cpus, **layout.resources}
    resources |= {"GPU": layout.num_gpus} if layout.num_gpus else {}
    return TorchTrainer(
        partial(_work, conductor),
        torch_config=TorchConfig(
            backend="nccl" if spec.on_gpus else "gloo",
            # Others wait for the first worker while it tests; a silence is noticed elsewhere.
            timeout_s=2 * max(spec.pool.stall_seconds, FIRST_SECONDS),
        ),
        scaling_config=ScalingConfig(
            num_workers=spec.size,
            use_gpu=layout.num_gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            storage_path=folder,  # nothing is stored: it wants a folder
            failure_config=FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
        ),
    )


def _work(conductor: Any) -> None:
    """What each worker of a team does."""
    from ray.train import get_context

    rank, here = get_context().get_world_rank(), ray.get_runtime_context()
    joined = conductor.join.remote(rank, here.get_node_id(), here.current_actor)
    part: _Part = ray.get(joined)
    try:
        _run(part, Team(rank, part.spec.size), conductor)
    except Exception as error:
        with suppress(Exception):  # one that does not travel: Ray Train's text says what it was
            ray.get(conductor.fail.remote(rank, error))
        raise


def _run(part: _Part, team: Team, conductor: Any) -> None:
    """Runs the job, and passes on what it says in the team's first worker."""
    import torch
    from ray.train.torch import get_device

    adopt(part.spec.pool.environment)
    with suppress(OSError):
        os.chdir(part.spec.folder)
    start_logging(part.about.settings)
    threads = part.spec.layout.threads
    torch.set_num_threads(threads)
    device = str(get_device()) if part.spec.on_gpus else "cpu"
    context = WorkerContext(device=device, threads=threads, team=team)
    with concerning(**part.about.fields):
        steps = part.job(context, *part.args)
        if not team.leads:
            for _ in steps:
                pass
            return
        recorder = RayRecorder()
        recorder.run = part.about.run
        value = _pass_on(conductor, counted(steps, recorder))
        ray.get(conductor.tell.remote(Done(value)))


def _pass_on(conductor: Any, steps: Generator[Progress, None, Any]) -> Any:
    """Passes on every step of a job; returns its value."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            return stop.value
        ray.get(conductor.tell.remote(progress))


def _is_of_communication(error: Exception) -> bool:
    """Whether it says that another process is gone, and nothing of the job."""
    from torch.distributed import DistError

    text = str(error).lower()
    words = any(word in text for word in COMMUNICATION)
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and words)
