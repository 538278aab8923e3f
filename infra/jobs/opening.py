"""Opens the output of a run before any work: checked, claimed, locked and tidied.

Commands open it before they start anything that takes time; flows that a scheduler starts open it
themselves, by the same code. A flow whose caller has opened it finds it open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from generators.places import is_remote
from generators.registry import JsonValue
from infra.config import RunConfig
from infra.config.preset import Preset, whole_config
from infra.jobs.checks import check_run
from infra.jobs.quarantine import quarantined, release
from infra.storage.atomic import remove_temporary
from infra.storage.runs import RunStore, run_store


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that may begin.

    Attributes:
        config: of the run.
        store: its own alone, as long as it is open.
        finished: the result, where there is nothing left to do.
    """

    config: RunConfig
    store: RunStore
    finished: dict[str, JsonValue] | None = None


OPEN: ContextVar[OpenRun] = ContextVar("open")


@contextmanager
def open_run(
    config: RunConfig | Preset,
    output: str | None,
    *,
    update: bool = False,
    once: bool = False,
    retry_quarantined: bool = False,
    growing: bool = False,
) -> Iterator[OpenRun]:
    """Makes an output this run's for the time of the block.

    Args:
        config: of the run.
        output: folder or URL; default: runs/NAME.
        update: accept the output of another config.
        once: a run that is finished is not opened again: its result is given.
        retry_quarantined: make what was given up; what was made without it is made again.
        growing: the data set gets more images; that none is hard is no mistake.

    Raises:
        UserError: a mistake in config or data, or an output that cannot be used.
    """
    outer = OPEN.get(None)
    if outer is not None:
        yield outer
        return
    whole = whole_config(config)
    store = run_store(output or f"runs/{whole.name}")
    again = retry_quarantined and bool(quarantined(store))
    if once and not again and (finished := store.finished(whole.identity())):
        yield OpenRun(config=whole, store=store, finished=finished)
        return
    check_run(whole, store, growing=growing)
    store.check(whole.identity(), update=update)  # a lock leaves a file behind
    with store.lock():
        store.claim(whole.identity(), update=update)
        tidy(store)
        if again:
            release(store)
        opened = OpenRun(config=whole, store=store)
        token = OPEN.set(opened)
        try:
            yield opened
            tidy(store)  # after workers that were killed on the way
        finally:
            OPEN.reset(token)


def tidy(store: RunStore) -> None:
    """Removes what a run that was killed has left half written."""
    if is_remote(store.root):
        return  # an object is whole or not there
    folders = [store.root, store.real, store.generated, store.scores, store.levels]
    folders += [*store.training.glob("*"), *store.generators.glob("*")]
    for folder in folders:
        remove_temporary(folder)
