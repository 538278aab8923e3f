"""One driver on an output at a time. Knows nothing of what the driver does.

On a disk it is a lock of the operating system (`flock`), which ends with the process that holds it.
An object store has none: there it is a lease, an object whose holder writes it anew every few
seconds. A lease that stands still is of a dead holder. That is judged by the own clock's intervals
alone: clocks of other machines are not read.
"""

import fcntl
import json
import logging
import os
import secrets
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Final

from upath import UPath

from generators.errors import OutputError
from generators.places import Place, StoreError
from infra.storage.files import put_bytes, read_bytes, remove

LOCK_FILE: Final = "run.lock"
BEAT_SECONDS: Final = 3.0
STILL_SECONDS: Final = 20.0
LOG = logging.getLogger("discl.lock")


@contextmanager
def locked(root: Place) -> Generator[None]:
    """Holds the lock of an output for the time of the block.

    Raises:
        OutputError: another run holds it, or the folder cannot be written.
        StoreError: the object store does not answer.
    """
    where = root / LOCK_FILE
    with _flocked(where) if isinstance(where, Path) else Lease(where=where).held():
        yield


def holder(root: Place) -> str:
    """Who is at work on an output; empty where nobody is, or the lock's file system has no locks.

    A lease in an object store is watched for some seconds: that of a dead holder stands still.

    Raises:
        StoreError: the object store does not answer.
    """
    where = root / LOCK_FILE
    try:
        if isinstance(where, Path):
            with where.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        first = read_bytes(where)
        for _ in range(5):
            time.sleep(BEAT_SECONDS / 2)
            if (now := read_bytes(where)) != first:
                return _described(now)
    except BlockingIOError:
        return _described(where.read_bytes())
    except StoreError:
        raise
    except OSError:  # no lock file, or no locks
        return ""
    return ""


@contextmanager
def _flocked(path: Path) -> Generator[None]:
    """The file stays when the lock ends: removing it could remove another's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(path.parent, path.read_bytes()) from error
        except OSError:
            LOG.warning("%s: this file system has no locks; start no second run here", path)
        stream.truncate(0)
        stream.write(_about(""))
        stream.flush()
        yield
        stream.truncate(0)


@dataclass(slots=True, kw_only=True)
class Lease:
    """A lock in an object store.

    Attributes:
        where: its object.
        beat_seconds: between two signs of life.
        still_seconds: without one, after which a holder counts as dead.
    """

    where: UPath
    beat_seconds: float = BEAT_SECONDS
    still_seconds: float = STILL_SECONDS
    _identity: str = field(default_factory=lambda: secrets.token_hex(16))
    _ended: Event = field(default_factory=Event)

    @contextmanager
    def held(self) -> Generator[None]:
        """Takes the lease, keeps it for the time of the block, and gives it up.

        A holder that finds that another one has taken it, because it slept too long, is interrupted
        as by Ctrl-C, or as by `kill` where Ctrl-C is ignored.

        Raises:
            OutputError: another run holds it.
            StoreError: the object store does not answer.
        """
        self._take()
        thread = Thread(target=self._keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(self.still_seconds)
            with suppress(OSError):  # it will stand still
                if self._is_own():
                    remove(self.where)

    def _take(self) -> None:
        while True:
            found = self._read()
            if found is not None:
                self._wait_for_death(found)
                remove(self.where)
            with suppress(FileExistsError):
                put_bytes(self.where, _about(self._identity), new=True)
            if found is not None:  # others may have waited for the same death
                time.sleep(self.beat_seconds)
            now = self._read()
            if now is not None and _identity(now) == self._identity:
                return
            if now is not None and found is not None:
                raise _busy(self.where.parent, now)

    def _wait_for_death(self, found: bytes) -> None:
        """Returns when a lease has stood still for long, or is gone.

        Raises:
            OutputError: its holder lives.
        """
        LOG.warning("%s is there; waiting for a sign of life of %s", self.where, _described(found))
        until = time.monotonic() + self.still_seconds
        while time.monotonic() < until:
            time.sleep(min(self.beat_seconds, self.still_seconds) / 2)
            now = self._read()
            if now is None:
                return
            if now != found:
                raise _busy(self.where.parent, now)

    def _keep(self) -> None:
        while not self._ended.wait(self.beat_seconds):
            try:
                if not self._is_own():
                    LOG.error("%s was taken by another run; this one ends", self.where)
                    _interrupt()
                    return
                put_bytes(self.where, _about(self._identity))
            except OSError as error:  # it may answer again before others take it for dead
                LOG.warning("%s: %s", self.where, error)

    def _is_own(self) -> bool:
        found = self._read()
        return found is not None and _identity(found) == self._identity

    def _read(self) -> bytes | None:
        try:
            return read_bytes(self.where)
        except FileNotFoundError:
            return None


def _interrupt() -> None:
    """Ends this process; what a script starts in the background with `&` ignores SIGINT."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGTERM if ignored else signal.SIGINT)


def _about(identity: str) -> bytes:
    """Who holds a lock: for humans, but for the identity; other bytes every time."""
    facts = {
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": identity,
        "beat": secrets.token_hex(8),
    }
    return json.dumps(facts).encode()


def _facts(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _identity(data: bytes) -> object:
    return _facts(data).get("identity")


def _described(data: bytes) -> str:
    facts = {"host": "?", "pid": "?", "since": "?", **_facts(data)}
    return f"host {facts['host']}, process {facts['pid']}, last seen {facts['since']}"


def _busy(root: Place, data: bytes) -> OutputError:
    return OutputError(
        f"another run is at work on {root}: {_described(data)}; wait for its end, or stop it"
    )
