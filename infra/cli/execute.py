"""Runs a flow for a command: folder, Prefect API, display; and what is printed at the end."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from infra.cli.options import INTERRUPTED
from infra.config import FitConfig, RunConfig
from infra.prefect_server import prefect_api
from infra.progress import Board, board_for
from infra.storage.runs import RunStore, lending_stores, run_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a flow is run. Not part of a run's identity: results do not depend on it.

    Attributes:
        update: accept a folder of another config.
        overlap: start trainings while later levels are generated.
        reuse: folders of other runs whose images may be copied.
        retry_quarantined: make shards again that were given up.
    """

    update: bool = False
    overlap: bool = False
    reuse: Sequence[str] = ()
    retry_quarantined: bool = False


def execute(kind: str, config: RunConfig, output: str | None, options: Options) -> None:
    """Runs `run`, `study`, `generate` or `train` in its output folder.

    Raises:
        typer.Exit: with code 3, where shards were given up.
    """
    from infra.cli.summary import print_images, print_result, print_study
    from infra.config.schema import studied
    from infra.jobs.opening import open_run

    console, whole = Console(), kind in ("run", "study")
    config = studied(config) if kind == "study" else config
    reuse = [str(lender.root) for lender in lending_stores(options.reuse)]
    opening = open_run(
        config,
        output,
        update=options.update,
        once=whole,
        retry_quarantined=options.retry_quarantined,
    )
    with opening as opened:
        store, result = opened.store, opened.finished
        if result is None:
            with flow_setting(console, store.local) as board:
                made = _call(kind, config, options.overlap, reuse)
                if whole:
                    result = made
                else:
                    board.say(", ".join(f"{count:,} {name}" for name, count in made.items()))
                    board.say(f"in {store.root}")
    if result is not None:
        if config.study:
            print_study(console, store)
            print_images(console, result, store)
        else:
            print_result(console, result, store)
    if opened.finished:
        console.print("this run is finished; nothing was done again")
    end(console, store, "\n--retry-quarantined tries them again")


def end(console: Console, store: RunStore, advice: str = "") -> None:
    """Ends a command.

    Raises:
        typer.Exit: with code 3, where shards were given up; says which.
    """
    from infra.jobs.quarantine import given_up

    if failures := given_up(store):
        text = f"completed with failures: {failures}{advice}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(3)


def _call(kind: str, config: RunConfig, overlap: bool, reuse: Sequence[str]) -> Any:
    """Runs a flow by its name."""
    from flows import generate, run, study, train

    if kind == "generate":
        return generate.generate(config, reuse=reuse)
    flow = {"run": run.run, "study": study.study, "train": train.train}[kind]
    return flow(config, overlap=overlap, reuse=reuse)


def execute_fit(config: FitConfig, output: str | None) -> None:
    """Trains a generator."""
    from infra.jobs.checks import check_fit
    from infra.jobs.opening import tidy

    console = Console()
    store = run_store(output or f"runs/{config.name}")
    check_fit(config, store)
    store.claim(config.model_dump(mode="json", exclude={"workers"}), update=False)
    tidy(store)
    with flow_setting(console, store.local) as board:
        from flows.fit_generator import fit_generator

        board.say(f"generator: {fit_generator(config, str(store.root))}")


def rewrite_report(output: str) -> None:
    """Writes the report of a finished run from what is in its folder."""
    from infra.cli.summary import print_result
    from infra.report.saved import publish

    store = run_store(output)
    print_result(Console(), publish(store), store)


@contextmanager
def flow_setting(console: Console, root: Path) -> Iterator[Board]:
    """Display, Prefect API and signals for a flow."""
    with (
        _stopping(console),
        board_for(console) as board,
        prefect_api(root / "prefect") as server,
    ):
        board.say("starting the local Prefect server" if server else "using the Prefect API")
        from tasks.runtime import BOARD, COMMAND  # takes seconds, in which the server starts

        if server:
            server.wait()
        tokens = BOARD.set(board), COMMAND.set(f"discl {shlex.join(sys.argv[1:])}")
        try:
            yield board
        finally:
            BOARD.reset(tokens[0])
            COMMAND.reset(tokens[1])


@contextmanager
def _stopping(console: Console) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the flow: running work at its next step, a second Ctrl-C at once.

    At once loses nothing that is stored: files appear complete or not at all.
    """
    interrupts = 0

    def interrupt(number: int, _: Any) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            try:
                console.show_cursor()
            finally:
                os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a shell's background job
        heard.append(signal.SIGINT)
    previous = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
