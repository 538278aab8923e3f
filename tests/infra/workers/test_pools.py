"""Jobs on workers: in this process and on Ray actors, with the same results."""

import os
import threading
import time
from collections.abc import Generator, Iterator

import pytest
import torch

from generators.errors import ConfigError, SampleRejected
from infra.errors import Interrupted
from infra.workers.base import Progress, Worker, WorkerContext, available_cpus
from infra.workers.local import LocalPool
from tests.infra.workers import example_jobs
from tests.infra.workers.example_jobs import Steps, count, describe, fail, ignore, remember


@pytest.fixture
def local() -> Iterator[Worker]:
    with LocalPool(1).lease() as worker:
        yield worker


def test_a_local_job_returns_its_value_and_shows_its_progress(local: Worker) -> None:
    seen: list[Progress] = []
    assert local.run(count, 4, on_progress=seen.append) == 6
    assert seen == [Progress(done=done, total=4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "error", [ConfigError("a.b", 3, "4"), SampleRejected("unreadable_image", "x"), KeyError("k")]
)
def test_errors_of_a_local_job_arrive_as_themselves(local: Worker, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        local.run(fail, error, on_progress=ignore)
    assert caught.value is error


def test_a_local_job_ends_when_its_display_fails(local: Worker) -> None:
    closed: list[bool] = []

    def job(context: WorkerContext) -> Steps:
        try:
            yield Progress(done=0, total=1)
        finally:
            closed.append(True)
        return 1

    def broken(progress: Progress) -> None:
        raise StopIteration

    with pytest.raises(StopIteration):
        local.run(job, on_progress=broken)
    assert closed == [True]


def test_local_threads_are_set_until_the_pool_is_closed() -> None:
    before = torch.get_num_threads()
    pool = LocalPool(before + 1)
    with pool.lease() as worker:
        threads, of_torch, device, pid = worker.run(describe, on_progress=ignore)
    assert (threads, of_torch, pid) == (before + 1, before + 1, os.getpid())
    assert device in ("cpu", "cuda", "mps")
    pool.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("", available_cpus())])
def test_local_threads_are_all_unless_the_environment_says_how_many(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)  # torch has read it before; these tests say 1
    pool = LocalPool()
    assert torch.get_num_threads() == threads
    pool.close()


def test_the_local_worker_has_one_job_at_a_time() -> None:
    pool = LocalPool(1)
    order: list[str] = []

    def second() -> None:
        with pool.lease() as worker:
            order.append(f"second {worker.run(count, 2, on_progress=ignore)}")

    with pool.lease() as worker:
        thread = threading.Thread(target=second)
        thread.start()
        worker.run(count, 5, 0.01, on_progress=ignore)
        order.append("first")
    thread.join()
    assert order == ["first", "second 1"]


def test_a_closed_local_pool_ends_the_running_job_and_those_that_wait() -> None:
    pool, started, closed, ended = LocalPool(1), threading.Event(), [], []

    def endless(context: WorkerContext) -> Generator[Progress, None, None]:
        try:
            while True:
                started.set()
                yield Progress(done=0, total=1)
        finally:
            closed.append(True)

    def run() -> None:
        try:
            with pool.lease() as worker:
                worker.run(endless, on_progress=ignore)
        except Interrupted as error:
            ended.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    pool.close()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 2
    assert closed == [True]  # the second one never began


def test_a_worker_keeps_the_last_model_of_a_kind(local: Worker) -> None:
    runs = [local.run(remember, key, on_progress=ignore)[1] for key in ("a", "a", "b", "a")]
    assert runs == [["a"], ["a", "a"], ["b"], ["a"]]


def test_a_model_that_cannot_be_loaded_does_not_keep_its_forerunner() -> None:
    context = WorkerContext(device="cpu", threads=1)
    context.keep("model", "a", lambda: "model a")
    with pytest.raises(OSError, match="no file"):
        context.keep("model", "b", lambda: (_ for _ in ()).throw(OSError("no file")))
    assert context.keep("model", "b", lambda: "model b") == "model b"


def test_ray_does_what_the_local_pool_does_and_streams(local: Worker) -> None:
    """The one Ray test that always runs: results, streaming, errors, threads."""
    from infra.workers.layout import GroupSpec
    from infra.workers.ray_pool import RayPool, RayPoolSpec, ray

    ray.cloudpickle.register_pickle_by_value(example_jobs)
    pool = RayPool(RayPoolSpec(groups=[GroupSpec(count=1, threads=1)], stall_seconds=60))
    try:
        arrived: list[float] = []
        with pool.lease() as worker:
            show = lambda _: arrived.append(time.monotonic())  # noqa: E731
            value = worker.run(count, 4, 0.2, on_progress=show)
            ended = time.monotonic()
            assert value == local.run(count, 4, on_progress=ignore)
            assert len(arrived) == 4
            assert ended - arrived[0] > 0.4  # three pauses of 0.2 s come after the first progress
            with pytest.raises(ConfigError) as caught:
                worker.run(fail, ConfigError("a.b", 3, "4"), on_progress=ignore)
            assert (caught.value.field, caught.value.value, caught.value.allowed) == ("a.b", 3, "4")
            runs = [worker.run(remember, "a", on_progress=ignore) for _ in range(2)]
            assert runs == [("a", ["a"]), ("a", ["a", "a"])]
            threads, of_torch, _, pid = worker.run(describe, on_progress=ignore)
        assert (threads, of_torch) == (1, 1)
        assert pid != os.getpid()
    finally:
        pool.close()
    assert not ray.is_initialized()
