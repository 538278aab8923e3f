"""One driver on an output at a time, by locks of disks and leases of object stores."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from upath import UPath

from generators.errors import OutputError
from generators.places import file_exists, place
from infra.storage.files import put_bytes
from infra.storage.lock import Lease, holder
from infra.storage.runs import RunStore

BEAT, STILL = 0.1, 1.0


@pytest.fixture
def where() -> UPath:
    found = place(f"memory://bucket/{secrets.token_hex(8)}/run.lock")
    assert isinstance(found, UPath)
    return found


def lease(where: UPath) -> Lease:
    return Lease(where=where, beat_seconds=BEAT, still_seconds=STILL)


def test_a_second_driver_on_a_disk_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    with store.lock():
        names = f"another run is at work on .*{os.uname().nodename}, process {os.getpid()}, "
        with pytest.raises(OutputError, match=names), RunStore(tmp_path / "run").lock():
            pytest.fail("two drivers")
        assert f"process {os.getpid()}" in holder(store.root)
    assert holder(store.root) == ""
    with store.lock():
        store.claim({"name": "x"}, update=False)  # its file is no other file


@pytest.mark.slow
def test_a_lock_on_a_disk_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from infra.storage.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=f"process {process.pid}"), RunStore(tmp_path).lock():
            pytest.fail("two drivers")
        process.kill()
        process.wait()
    with RunStore(tmp_path).lock():
        pass


def test_a_lease_is_refused_while_its_holder_lives_and_gone_afterwards(where: UPath) -> None:
    with lease(where).held():
        time.sleep(2 * STILL)  # it lives longer than a lease may stand still
        started = time.monotonic()
        with pytest.raises(OutputError, match=f"process {os.getpid()}"), lease(where).held():
            pytest.fail("two drivers")
        assert time.monotonic() - started < STILL
    assert not file_exists(where)


def test_a_lease_that_stands_still_is_taken(where: UPath) -> None:
    put_bytes(where, b'{"host": "gone", "pid": 1, "since": "2000", "identity": "x"}')
    started = time.monotonic()
    with lease(where).held():
        assert time.monotonic() - started >= STILL


def test_of_many_that_wait_for_a_death_one_goes_on(where: UPath) -> None:
    put_bytes(where, b"{}")

    def attempt(_: int) -> bool:
        try:
            with lease(where).held():
                time.sleep(3 * STILL)
                return True
        except OutputError:
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, range(4))) == 1


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def interrupting(request: pytest.FixtureRequest) -> Generator[signal.Signals]:
    """The one signal of the two that interrupts; the other does nothing."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        heard = number == request.param
        signal.signal(number, signal.default_int_handler if heard else signal.SIG_IGN)
    yield request.param
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("interrupting")
def test_a_holder_that_slept_too_long_ends(where: UPath) -> None:
    def work() -> None:
        with lease(where).held():
            put_bytes(where, b'{"identity": "another"}')
            time.sleep(10)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - started < 5
    assert file_exists(where)  # the other's
