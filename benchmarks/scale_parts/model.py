"""A discrete-event model of a run: workers that make groups of shards, die and come back.

It knows no Prefect and no Ray, only what they cost the driver: so much of its time a task, so much
a message of progress. The driver does one thing at a time.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

NODE = 8
"""Workers of one machine."""
MOST_EVENTS = 20
"""A shard. A run with more has no end: its driver is so late that workers die before they begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A run, and the world it runs in. Times in seconds.

    Attributes:
        shards: in all.
        workers: that make them.
        group: shards in one task.
        shard_seconds: mean time of a shard.
        spread: sigma of the log of a shard's time; 0 makes all alike.
        slow_workers: share of the workers that take twice as long for everything.
        deaths_per_hour: chance of a worker to die in an hour.
        losses_per_hour: chance of a machine with its `NODE` workers to go, in an hour.
        restart: until a dead worker is back.
        task_cost: of the driver's time, a task.
        shard_cost: of the driver's time, a shard: to make its requests and to send them.
        message_cost: of the driver's time, a message of progress.
        messages: of progress, a shard.
        latency: a worker waits between two tasks, beside what the driver takes.
    """

    shards: int
    workers: int
    group: int
    shard_seconds: float = 10.0
    spread: float = 0.0
    slow_workers: float = 0.0
    deaths_per_hour: float = 0.0
    losses_per_hour: float = 0.0
    restart: float = 30.0
    task_cost: float = 0.0
    shard_cost: float = 0.0
    message_cost: float = 0.0
    messages: int = 0
    latency: float = 0.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a run.

    Attributes:
        seconds: from the first task to the last shard.
        done: shards made.
        work: seconds of workers that went into shards that were kept.
        lost: seconds of workers that a death made worthless.
        driver: seconds that the driver was busy.
        tail: seconds from the first worker that found no more work to the end.
        retries: tasks that were tried again, by the second in which they were.
        tasks: that the run had.
    """

    seconds: float = 0.0
    done: int = 0
    work: float = 0.0
    lost: float = 0.0
    driver: float = 0.0
    tail: float = 0.0
    retries: list[float] = field(default_factory=list)
    tasks: int = 0

    def efficiency(self, load: Load) -> float:
        """Share of the workers' time that went into shards that were kept."""
        return self.work / (self.seconds * load.workers)

    def worst_minute(self) -> int:
        """Most retries in any sixty seconds."""
        times = np.array(sorted(self.retries))
        return int((np.searchsorted(times, times + 60) - np.arange(len(times))).max(initial=0))

    def driver_share(self) -> float:
        """Share of the run's time that the driver was busy."""
        return self.driver / self.seconds


class _Run:
    """A run while it is simulated."""

    def __init__(self, load: Load, seed: int) -> None:
        self.load, self.random = load, np.random.default_rng(seed)
        mean = -(load.spread**2) / 2  # so that the mean of a shard's time is as asked for
        times = load.shard_seconds * np.exp(self.random.normal(mean, load.spread, load.shards))
        starts = range(0, load.shards, load.group)
        self.waiting = deque((times[start : start + load.group], 0) for start in starts)
        self.owed = np.zeros(load.workers)
        self.slow = np.ones(load.workers)
        self.slow[: round(load.slow_workers * load.workers)] = 2.0
        self.dies = np.array([self._until(load.deaths_per_hour) for _ in range(load.workers)])
        machines = math.ceil(load.workers / NODE)
        self.goes = np.array([self._until(load.losses_per_hour) for _ in range(machines)])
        self.driver_free, self.starved, self.out = 0.0, math.inf, Outcome(tasks=len(starts))
        self.idle: list[tuple[float, int]] = []
        self.events: list[tuple[float, int, int]] = []  # when, worker or -1, a delayed retry or -1
        self.delayed: list[tuple[np.ndarray, int]] = []

    def _until(self, chance_per_hour: float) -> float:
        """Seconds until something of this chance in an hour happens."""
        if not chance_per_hour:
            return math.inf
        return float(self.random.exponential(-3600 / math.log1p(-chance_per_hour)))

    def _take_driver(self, now: float, seconds: float) -> float:
        """When the driver is done with something that came up now."""
        self.driver_free = max(self.driver_free, now) + seconds
        self.out.driver += seconds
        return self.driver_free

    def _begin(self, worker: int, now: float) -> None:
        """A worker takes the next group; its next event is the group's end or its own death."""
        times, tries = self.waiting.popleft()
        # The driver handles the messages of the worker's last group before it sees its end.
        messages, self.owed[worker] = self.owed[worker], 0.0
        costs = self.load.task_cost + len(times) * self.load.shard_cost
        started = self._take_driver(now, costs + messages) + self.load.latency
        ends = started + np.cumsum(times * self.slow[worker])
        death = min(self.dies[worker], self.goes[worker // NODE])
        kept = int(np.searchsorted(ends, death, side="right")) if death < ends[-1] else len(times)
        until = ends[kept - 1] if kept else started
        self.out.done += kept
        self.out.work += until - started
        self.owed[worker] = kept * self.load.messages * self.load.message_cost
        if kept == len(times):
            self.out.seconds = max(self.out.seconds, until)
            heapq.heappush(self.events, (until, worker, -1))
            return
        died = max(death, started)
        self.out.lost += died - until
        # As `tasks.settings` has it. A run gives a shard up after three deaths, the model never.
        delay = 2.0 ** min(tries, 2) * (1 + 0.3 * self.random.random())
        self.out.retries.append(died + delay)
        self.delayed.append((times[kept:], tries + 1))
        heapq.heappush(self.events, (died + delay, -1, len(self.delayed) - 1))
        self._revive(worker, died)

    def _revive(self, worker: int, died: float) -> None:
        """A dead worker comes back; a machine that has gone, with the first of its workers."""
        back = died + self.load.restart
        if self.dies[worker] <= died:
            self.dies[worker] = back + self._until(self.load.deaths_per_hour)
        heapq.heappush(self.events, (back, worker, -1))

    def _renew(self, now: float) -> None:
        """Machines that are gone for longer than a restart takes are replaced by others."""
        for machine in np.flatnonzero(self.goes + self.load.restart <= now):
            self.goes[machine] = now + self._until(self.load.losses_per_hour)

    def run(self) -> Outcome:
        """Plays the run to its end; one that has none is given up with shards missing."""
        for worker in range(self.load.workers):
            heapq.heappush(self.events, (0.0, worker, -1))
        for _ in range(MOST_EVENTS * self.load.shards):
            if not self.events:
                break
            now, worker, retry = heapq.heappop(self.events)
            self._renew(now)
            if retry >= 0:
                self.waiting.appendleft(self.delayed[retry])
                if self.idle:
                    self._begin(heapq.heappop(self.idle)[1], now)
            elif self.dies[worker] <= now:
                self._revive(worker, now)  # it died without work
            elif self.waiting:
                self._begin(worker, now)
            else:
                self.starved = min(self.starved, now)
                heapq.heappush(self.idle, (now, worker))
        if self.events:
            self.out.seconds = max(self.out.seconds, now)
        self.out.tail = max(0.0, self.out.seconds - min(self.starved, self.out.seconds))
        return self.out


def simulate(load: Load, seed: int = 0) -> Outcome:
    """Plays a run; the same seed gives the same run."""
    return _Run(load, seed).run()
