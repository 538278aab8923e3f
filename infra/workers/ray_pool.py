"""Workers as Ray actors, on this machine or a cluster whose machines come and go.

A worker that dies, or stays silent for too long, is replaced. One whose machine is about to leave
gets no new job and is replaced elsewhere. What finds no place waits: Ray's autoscaler sees it as
demand, and it joins when it is there. A team gets the places of free workers, which start anew
after it.
"""

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError, RayTaskError

from generators.errors import ConfigError, DisclError
from infra.errors import Interrupted, RunFailed
from infra.workers.base import Worker
from infra.workers.layout import Layout, team_layout
from infra.workers.ray_spec import RayPoolSpec, demand, layouts_of
from infra.workers.ray_start import LOOK_SECONDS, ask, leaving_nodes, ray, start
from infra.workers.ray_team import TeamSpec, end_actors, start_conductor
from infra.workers.ray_worker import Actor, RayWorker

CLOSE_SECONDS = 5
MAX_FAILED_STARTS = 5
"""Of workers that died at their start, one after the other."""


@dataclass(slots=True, eq=False)
class _Member:
    """An actor of the pool, and the machine it is on, once it is known."""

    actor: Any
    layout: Layout
    node: str = ""


class RayPool:
    """Actors on a local Ray or a cluster.

    Raises:
        ConfigError: more asked for than the cluster has, or no cluster at the address.
    """

    def __init__(self, spec: RayPoolSpec) -> None:
        self._spec, self._started = spec, not ray.is_initialized()
        if self._started:
            start(spec.address)
        try:
            self.layouts = layouts_of(spec)
        except ConfigError:
            if self._started:
                ray.shutdown()
            raise
        self.size = sum(layout.size for layout in self.layouts)
        self._closed, self._lock, self._looking = False, threading.Lock(), threading.Lock()
        self._gathering = threading.Lock()
        self._conductors: set[Any] = set()
        self._free: queue.Queue[_Member | None] = queue.Queue()
        self._starting: dict[Any, _Member] = {}
        self._members: set[_Member] = set()
        self._failed_starts, self._alone_since = 0, time.monotonic()
        self._broken: BaseException | None = None
        # A Ray that was started here has one machine, and no one to ask when it is gone.
        self._shared = not self._started or bool(spec.address or os.environ.get("RAY_ADDRESS"))
        for layout in self.layouts:
            for _ in range(layout.size):
                self._start(layout)

    @contextmanager
    def lease(self) -> Iterator[Worker]:
        """A free worker; a dead one is replaced when its lease ends.

        Raises:
            Interrupted: the pool was closed.
            RunFailed: there has been no worker for a long time, or none can start.
        """
        member = self._next()
        worker = RayWorker(
            member.actor,
            member.node,
            self._is_leaving,
            lambda: self._closed,
            self._spec.stall_seconds,
        )
        try:
            yield worker
        finally:
            self._alone_since = time.monotonic()  # nobody may have looked during a long job
            if not self._closed and worker.dead:
                self._replace(member)
            else:
                self._free.put(member)

    @contextmanager
    def lease_team(self, size: int) -> Iterator[Worker]:
        """Free workers of one kind as one; see `team_layout` for which.

        Raises:
            ConfigError: no kind has so many.
            Interrupted: the pool was closed.
            RunFailed: there has been no worker for a long time, or none can start.
        """
        if size == 1:
            with self.lease() as worker:
                yield worker
            return
        layout = team_layout(self.layouts, size)
        members = self._gather(layout, size)
        waiting: list[_Member] = []

        def begun() -> None:
            while waiting:
                self._replace(waiting.pop())

        conductor = self._conduct(layout, size)
        try:
            waiting += self._withdraw()
            end_actors(member.actor for member in members)
            yield RayWorker(
                conductor,
                ray.get_runtime_context().get_node_id(),
                self._is_leaving,
                lambda: self._closed,
                self._spec.stall_seconds,
                begun,
            )
        finally:
            self._alone_since = time.monotonic()
            self._conductors.discard(conductor)
            if not self._closed:
                end_actors([], [conductor])
                begun()
                for member in members:
                    self._replace(member)

    def _gather(self, layout: Layout, size: int) -> list[_Member]:
        """Waits for free workers. One team gathers at a time: two halves would wait for ever."""
        members: list[_Member] = []
        with self._gathering:
            try:
                while len(members) < size:
                    member = self._next()
                    if member.layout is layout:
                        members.append(member)
                    else:
                        self._free.put(member)
                        time.sleep(LOOK_SECONDS)
            except BaseException:
                for member in members:
                    self._free.put(member)
                raise
        return members

    def _conduct(self, layout: Layout, size: int) -> Any:
        team = TeamSpec(size=size, layout=layout, pool=self._spec, folder=os.getcwd())
        conductor = ask(lambda: start_conductor(team), lambda: self._closed)
        with self._lock:
            self._conductors.add(conductor)
        return conductor

    def _withdraw(self) -> list[_Member]:
        """Workers of a cluster that still wait for places: they would take those of a team."""
        if not self._shared:
            return []
        with self._looking, self._lock:
            waiting = list(self._starting.values())
            self._starting.clear()
        end_actors(member.actor for member in waiting)
        return waiting

    def pids(self) -> list[int]:
        """Process ids of the workers that are free when all have started."""
        while self._starting:
            self._look()
            time.sleep(LOOK_SECONDS)
        members = [member for member in self._free.queue if member]
        found: list[int] = ray.get([member.actor.pid.remote() for member in members])
        return found

    def close(self) -> None:
        """Ends the actors at once, and Ray if it was started here."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            actors, teams = [member.actor for member in self._members], list(self._conductors)
        # A signal to the whole process group has ended Ray's own processes as well: whoever asks
        # them then may wait for ever.
        killer = threading.Thread(
            target=end_actors, args=(actors, teams, CLOSE_SECONDS), daemon=True
        )
        killer.start()
        killer.join(CLOSE_SECONDS)
        self._free.put(None)
        if self._started:
            # Whoever asks Ray while it is shut down, or later, ends the whole process.
            idle = self._looking.acquire(timeout=CLOSE_SECONDS)
            ray.shutdown()
            if idle:
                self._looking.release()

    def _is_leaving(self, node: str) -> bool:
        """Whether a machine is gone or about to go."""
        if not self._shared:
            return False
        with self._looking:
            return not self._closed and node in leaving_nodes()

    def _next(self) -> _Member:
        """Waits for a worker that is free, and will be there for a while."""
        while True:
            if self._broken:
                raise self._broken
            try:
                member = self._free.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look()
                continue
            if member is None or self._closed:
                self._free.put(member)  # wakes the next one that waits
                raise Interrupted("the workers have been stopped")
            if self._is_leaving(member.node):
                self._replace(member)
                continue
            return member

    def _look(self) -> None:
        """Lets workers in that have started. One thread looks; it holds nothing others need."""
        if self._closed or not self._looking.acquire(blocking=False):
            return
        try:
            if self._closed:
                return
            if waiting := list(self._starting):
                ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
                for started in ready:
                    self._let_in(started)
            self._check_hope()
        except Exception as error:
            self._broken = None if self._closed else error
        finally:
            self._looking.release()

    def _let_in(self, started: Any) -> None:
        member = self._starting.pop(started)
        try:
            member.node = ray.get(started)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, DisclError) else error) from None
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise RunFailed(f"workers die as they start: {error}") from None
            self._replace(member)
            return
        self._failed_starts = 0
        self._free.put(member)

    def _check_hope(self) -> None:
        """Ends the waiting when nothing comes.

        Raises:
            RunFailed: nothing came.
        """
        now, limit = time.monotonic(), self._spec.wait_seconds
        if len(self._starting) < len(self._members):
            self._alone_since = now
        elif now - self._alone_since > limit:
            raise RunFailed(f"no worker found a place for {limit} s: {demand(self.layouts)}")

    def _start(self, layout: Layout) -> None:
        options: dict[str, Any] = {
            "num_cpus": layout.num_cpus,
            "num_gpus": layout.num_gpus,
            "resources": dict(layout.resources),
        }
        arguments = (layout.threads, layout.device, dict(self._spec.environment), os.getcwd())
        member = _Member(ray.remote(Actor).options(**options).remote(*arguments), layout)
        started = member.actor.ready.remote()
        with self._lock:
            self._members.add(member)
            self._starting[started] = member

    def _replace(self, member: _Member) -> None:
        """A fresh actor for one that is dead or leaving. Holds no lock while it asks Ray."""

        def anew() -> None:
            ray.kill(member.actor)
            self._start(member.layout)

        ask(anew, lambda: self._closed)
        with self._lock:
            self._members.discard(member)
