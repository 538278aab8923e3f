"""Ray actors that die, stall and end: nothing is lost and nothing hangs."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generators.errors import ConfigError, SampleRejected
from infra.errors import Interrupted, WorkerError
from infra.workers.base import Progress
from infra.workers.layout import GroupSpec
from infra.workers.ray_pool import RayPool, RayPoolSpec, ray
from tests.infra.workers import example_jobs
from tests.infra.workers.example_jobs import (
    count,
    describe,
    fail,
    ignore,
    wait_for_file,
    wait_gone,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[RayPool]:
    """Two actors on a Ray of four CPUs that is there already, for all tests of this file."""
    ray.cloudpickle.register_pickle_by_value(example_jobs)
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    found = RayPool(RayPoolSpec(groups=[GroupSpec(count=2, threads=1)], stall_seconds=60))
    yield found
    found.close()
    assert ray.is_initialized()  # not ours to stop
    ray.shutdown()


def test_errors_that_are_not_ours_say_where_they_come_from(pool: RayPool) -> None:
    with pool.lease() as worker:
        with pytest.raises(KeyError, match="in fail"):
            worker.run(fail, KeyError("k"), on_progress=ignore)
        with pytest.raises(OSError, match="disk") as caught:
            worker.run(fail, OSError(28, "disk full"), on_progress=ignore)
        assert caught.value.errno == 28
        with pytest.raises(SampleRejected, match="unreadable_image"):
            worker.run(fail, SampleRejected("unreadable_image"), on_progress=ignore)
        assert worker.run(count, 3, on_progress=ignore) == 3  # and the worker lives


def test_two_actors_work_at_the_same_time(pool: RayPool, tmp_path: Path) -> None:
    begun: set[int] = set()
    pids: list[int] = []

    def note(progress: Progress) -> None:
        begun.add(progress.done)

    def work() -> None:
        with pool.lease() as worker:
            pids.append(worker.run(wait_for_file, tmp_path / "go", on_progress=note))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(begun) == 2, 60)  # neither ends before the other has begun
    assert pids == []
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(30)
    assert len(pids) == len(set(pids)) == 2


def test_a_killed_actor_is_a_worker_error_and_the_next_lease_works(
    pool: RayPool, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        killed.append(progress.done)
        os.kill(progress.done, signal.SIGKILL)

    started = time.monotonic()
    with pytest.raises(WorkerError, match="the worker died"), pool.lease() as worker:
        worker.run(wait_for_file, tmp_path / "never", on_progress=kill)
    assert time.monotonic() - started < 30
    for _ in range(2):  # both places of the pool
        with pool.lease() as worker:
            assert worker.run(count, 3, on_progress=ignore) == 3
            assert worker.run(describe, on_progress=ignore)[3] != killed[0]


def test_an_actor_killed_between_jobs_is_replaced(pool: RayPool) -> None:
    pids = pool.pids()
    assert len(set(pids)) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(WorkerError), pool.lease() as worker:
            worker.run(count, 3, on_progress=ignore)
    for _ in range(2):
        with pool.lease() as worker:
            assert worker.run(count, 3, on_progress=ignore) == 3


def test_a_death_after_a_long_job_is_not_a_long_wait(pool: RayPool, tmp_path: Path) -> None:
    single = RayPool(RayPoolSpec(groups=[GroupSpec(count=1, threads=1)], wait_seconds=60))

    def kill(progress: Progress) -> None:
        single._alone_since -= 1000  # as if the job had been at it for so long
        os.kill(progress.done, signal.SIGKILL)

    try:
        with pytest.raises(WorkerError), single.lease() as worker:
            worker.run(wait_for_file, tmp_path / "never", on_progress=kill)
        with single.lease() as worker:
            assert worker.run(count, 3, on_progress=ignore) == 3
    finally:
        single.close()


def test_a_silent_job_is_a_worker_error_and_its_actor_ends(pool: RayPool, tmp_path: Path) -> None:
    short = RayPool(
        RayPoolSpec(groups=[GroupSpec(count=1, threads=1)], stall_seconds=2)
    )  # on the Ray that runs
    pids: list[int] = []
    short.pids()  # waits for its start, which is silent
    started = time.monotonic()
    with pytest.raises(WorkerError, match="no sign of life for 2 s"), short.lease() as worker:
        worker.run(wait_for_file, tmp_path / "never", on_progress=lambda p: pids.append(p.done))
    assert 2 <= time.monotonic() - started < 10
    wait_gone(pids[0])
    short.pids()
    with short.lease() as worker:
        assert worker.run(count, 3, 0.1, on_progress=ignore) == 3
    short.close()


def test_a_display_that_fails_does_not_leave_a_busy_actor(pool: RayPool, tmp_path: Path) -> None:
    pids: list[int] = []

    def broken(progress: Progress) -> None:
        pids.append(progress.done)
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"), pool.lease() as worker:
        worker.run(wait_for_file, tmp_path / "never", on_progress=broken)
    wait_gone(pids[0])


def test_closing_ends_actors_running_jobs_and_waiting_leases(pool: RayPool, tmp_path: Path) -> None:
    other = RayPool(RayPoolSpec(groups=[GroupSpec(count=1, threads=1)], stall_seconds=60))
    pids: list[int] = []
    ends: list[type[BaseException]] = []

    def work() -> None:
        try:
            with other.lease() as worker:
                worker.run(
                    wait_for_file, tmp_path / "no", on_progress=lambda p: pids.append(p.done)
                )
        except (WorkerError, Interrupted) as error:
            ends.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(pids))
    other.close()
    other.close()
    for thread in threads:
        thread.join(20)
    assert sorted(ends, key=str) == [Interrupted, Interrupted, WorkerError]
    wait_gone(pids[0])
    with pytest.raises(Interrupted), other.lease():
        pass


def test_gpus_that_are_not_there_are_a_mistake_of_the_user(pool: RayPool) -> None:
    with pytest.raises(ConfigError) as caught:
        RayPool(RayPoolSpec(groups=[GroupSpec(gpus=64)]))
    assert caught.value.field == "workers.gpus"
