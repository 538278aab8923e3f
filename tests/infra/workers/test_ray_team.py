"""Teams of Ray workers: they run one job together; die, stall and end as one worker does."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generators.errors import ConfigError
from infra.errors import Interrupted, WorkerError
from infra.workers.base import Progress
from infra.workers.layout import GroupSpec
from infra.workers.ray_pool import RayPool, ray
from infra.workers.ray_spec import RayPoolSpec
from tests.infra.workers import example_jobs, team_jobs
from tests.infra.workers.example_jobs import count, ignore, wait_gone
from tests.infra.workers.team_jobs import add_up, fail_in, work_on

pytestmark = pytest.mark.slow


def make_pool(size: int, team: int, stall_seconds: int = 120) -> RayPool:
    group = GroupSpec(count=size, threads=1)
    secret = {"TEAM_SECRET": "for workers"}
    return RayPool(
        RayPoolSpec(groups=[group], team=team, stall_seconds=stall_seconds, environment=secret)
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[RayPool]:
    """Three workers on a Ray that is there already, and full with them."""
    for jobs in (example_jobs, team_jobs):
        ray.cloudpickle.register_pickle_by_value(jobs)
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    found = make_pool(size=3, team=2)
    yield found
    found.close()
    assert ray.is_initialized()  # not ours to stop
    ray.shutdown()


def started(folder: Path) -> list[int]:
    return [int((folder / str(rank)).read_text()) for rank in (0, 1)]


def test_a_job_runs_in_all_workers_and_the_first_one_speaks(pool: RayPool) -> None:
    seen: list[Progress] = []
    with pool.lease_team(2) as team:
        told = team.run(add_up, [3, 4], on_progress=seen.append)
    assert seen == [Progress(done=done, total=3) for done in (1, 2, 3)]
    assert (told.sum, told.size, told.threads) == (7, 2, (1, 1))
    assert len({*told.pids, os.getpid()}) == 3
    assert (told.folder, told.secret) == (os.getcwd(), "for workers")
    assert not (Path.home() / "ray_results").exists()
    pool.pids()  # the places are the pool's again
    with pool.lease_team(1) as alone:
        assert alone.run(count, 3, on_progress=ignore) == 3


def test_errors_of_any_worker_arrive_as_themselves(pool: RayPool) -> None:
    with pool.lease_team(2) as team:
        with pytest.raises(ConfigError) as caught:
            team.run(fail_in, 1, ConfigError("a.b", 3, "4"), on_progress=ignore)
        assert (caught.value.field, caught.value.value, caught.value.allowed) == ("a.b", 3, "4")
        with pytest.raises(OSError, match="disk"):
            team.run(fail_in, 0, OSError(28, "disk full"), on_progress=ignore)


def test_a_killed_worker_of_a_team_is_a_worker_error_and_the_next_team_works(
    pool: RayPool, tmp_path: Path
) -> None:
    def kill(progress: Progress) -> None:
        os.kill(started(tmp_path)[1], signal.SIGKILL)

    with pytest.raises(WorkerError, match="of a team died"), pool.lease_team(2) as team:
        team.run(work_on, tmp_path, on_progress=kill)
    for pid in started(tmp_path):
        wait_gone(pid)
    with pool.lease_team(2) as team:
        assert team.run(add_up, [1, 2], on_progress=ignore).sum == 3


def test_teams_that_share_too_few_workers_take_turns(pool: RayPool) -> None:
    found: list[int] = []

    def work(value: int) -> None:
        with pool.lease_team(2) as team:
            found.append(team.run(add_up, [value, value], on_progress=ignore).sum)

    threads = [threading.Thread(target=work, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(found) == [2, 4]


def test_a_silent_team_and_a_failing_display_leave_no_process(
    pool: RayPool, tmp_path: Path
) -> None:
    def broken(progress: Progress) -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"), pool.lease_team(2) as team:
        team.run(work_on, tmp_path, on_progress=broken)
    for pid in started(tmp_path):
        wait_gone(pid)
    pool._spec, spec = RayPoolSpec(stall_seconds=3), pool._spec
    try:
        with pytest.raises(WorkerError, match="no sign of life"), pool.lease_team(2) as team:
            team.run(work_on, tmp_path, on_progress=ignore)
    finally:
        pool._spec = spec
    for pid in started(tmp_path):
        wait_gone(pid)


def test_larger_teams_than_there_are_workers_of_a_kind_are_refused(pool: RayPool) -> None:
    with pytest.raises(ConfigError, match=r"workers\.processes_per_training: 3 .* at most 2"):
        make_pool(size=2, team=3)
    with pytest.raises(ConfigError, match="at most 3"), pool.lease_team(4):
        pass


def test_closing_ends_a_team_and_those_that_wait_for_one(pool: RayPool, tmp_path: Path) -> None:
    pool.close()
    other = make_pool(size=2, team=2)
    ends: list[type[BaseException]] = []
    begun = threading.Event()

    def work() -> None:
        try:
            with other.lease_team(2) as team:
                team.run(work_on, tmp_path, on_progress=lambda _: begun.set())
        except (WorkerError, Interrupted) as error:
            ends.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    closed = time.monotonic()
    other.close()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - closed < 20
    assert sorted(ends, key=str) == [Interrupted, Interrupted, WorkerError]
    for pid in started(tmp_path):
        wait_gone(pid)
