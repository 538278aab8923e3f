"""`discl submit` and `discl jobs`: a whole run as a job of a Ray cluster.

The driver runs on the cluster, so that nothing depends on the machine it was submitted from.
"""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.table import Table

from generators.errors import ConfigError
from generators.places import is_remote, place
from infra.cli.options import INTERRUPTED
from infra.config import RunConfig
from infra.workers.ray_jobs import STOPPED, JobClient, JobSpec, JobState

PACKAGES: Final = ("curriculum", "flows", "generators", "infra", "tasks")
"""Of the project: folders of these names in a working directory are found before the installed."""

ON_CLUSTER: Final = ("workers.kind=ray", "workers.address=auto")
FAILED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is to be run, and how it gets there.

    Attributes:
        config: a file; None: a preset.
        options: of `discl run`, as given.
        places: of the output and of other runs: option and value.
        working_dir: is uploaded; None: the config alone is.
        variables: names of variables that are passed on.
        shared_disk: paths are of a disk that all nodes share.
    """

    config: Path | None
    options: Sequence[str]
    places: Sequence[tuple[str, str]]
    working_dir: Path | None = None
    variables: Sequence[str] = ()
    shared_disk: bool = False

    def check(self) -> None:
        """Refuses what could not work on a cluster.

        Raises:
            ConfigError: naming the option.
        """
        if not self.places:
            allowed = "a URL (s3://, gs://) that every node reaches, or a path with --shared-disk"
            raise ConfigError("--output", None, allowed)
        for option, value in self.places:
            self._check_place(option, value)
        if self.working_dir is not None:
            self._check_folder(self.working_dir)

    def environment(self) -> dict[str, str]:
        """The variables that are passed on.

        Raises:
            ConfigError: one is not set here. Never shows a value.
        """
        for name in self.variables:
            if name not in os.environ:
                shown = name.partition("=")[0]
                raise ConfigError("--env", shown, "the name of a variable that is set here")
        return {name: os.environ[name] for name in self.variables}

    def command(self) -> str:
        """Of the driver, in the folder that is uploaded."""
        program = ["discl"]
        if self.working_dir is not None and (self.working_dir / PACKAGES[0]).is_dir():
            program = ["python", "-m", "infra.cli"]  # the project itself, installed or not
        config = []
        if self.config is not None:
            below = self.working_dir or self.config.parent
            config = [str(self.config.resolve().relative_to(below.resolve()))]
        return shlex.join([*program, "run", *config, *self.options])

    @contextmanager
    def folder(self) -> Iterator[Path | None]:
        """What is uploaded."""
        if self.working_dir is not None or self.config is None:
            yield self.working_dir
            return
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(self.config, folder)
            yield Path(folder)

    def _check_place(self, option: str, value: str) -> None:
        where = place(value, option)
        if is_remote(where):
            return
        if not self.shared_disk:
            allowed = (
                "a URL (s3://, gs://) that every node reaches; or, on a disk that all nodes share "
                "under this path, --shared-disk as well"
            )
            raise ConfigError(option, value, allowed)
        if not isinstance(where, Path) or not where.is_absolute():
            raise ConfigError(option, value, "an absolute path of the disk that all nodes share")

    def _check_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError("--working-dir", str(folder), "a folder")
        there = [name for name in PACKAGES if (folder / name).is_dir()]
        if there and len(there) < len(PACKAGES):
            allowed = f"a folder without {there[0]}/, which would hide the package of this name"
            raise ConfigError("--working-dir", str(folder), allowed)
        if self.config and not self.config.resolve().is_relative_to(folder.resolve()):
            allowed = f"a file in --working-dir {folder}, which is all that is uploaded"
            raise ConfigError("config", str(self.config), allowed)


def submit(config: RunConfig, submission: Submission, address: str, *, follow: bool) -> None:
    """Submits a run, and follows it to its end.

    Raises:
        typer.Exit: with the run's own exit code.
    """
    submission.check()
    environment = submission.environment()
    client, console = JobClient(address), Console(stderr=True)
    facts = {"name": config.name, "output": submission.places[0][1]}
    with submission.folder() as folder:
        spec = JobSpec(
            command=submission.command(), folder=folder, environment=environment, facts=facts
        )
        name = client.submit(spec)
    console.print(f"job {name} on {client.address}", highlight=False, soft_wrap=True)
    if follow:
        follow_job(client, name)
    else:
        print(name)


def follow_job(client: JobClient, name: str) -> None:
    """Prints what a job writes, until it ends.

    Raises:
        typer.Exit: with the job's own exit code; 130 when it was stopped, or the following.
    """
    console = Console(stderr=True)
    try:
        state = client.follow(name, _write)
    except KeyboardInterrupt as error:
        console.print(
            f"the job goes on; discl jobs follow {name} shows it, discl jobs stop {name} ends it",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from error
    code = exit_code(state)
    console.print(f"job {name}: {state.status}, exit code {code}", highlight=False, soft_wrap=True)
    if state.exit_code is None and state.message:
        console.print(state.message, highlight=False, markup=False, soft_wrap=True)
    if code:
        raise typer.Exit(code)


def exit_code(state: JobState) -> int:
    """Of a job that has ended, as its command on this machine would have had it."""
    if state.exit_code is None:
        return {STOPPED: INTERRUPTED, "SUCCEEDED": 0}.get(state.status, FAILED)
    return state.exit_code if state.exit_code >= 0 else 128 - state.exit_code


def show_job(client: JobClient, name: str) -> None:
    """Prints what has become of a job."""
    state = client.state(name)
    console = Console()
    ended = f", exit code {exit_code(state)}" if state.ended else ""
    console.print(f"{state.status}{ended}", highlight=False)
    for label, text in (*state.facts.items(), ("command", state.command)):
        console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)


def show_jobs(client: JobClient) -> None:
    """Prints all jobs of a cluster, the latest first."""
    table = Table(box=None, pad_edge=False)
    for name in ("job", "status", "started"):
        table.add_column(name, no_wrap=True)
    for name in ("name", "output"):
        table.add_column(name, overflow="fold")
    for state in client.states():
        started = datetime.fromtimestamp(state.started).strftime("%Y-%m-%d %H:%M:%S")
        facts = (state.facts.get(key, "") for key in ("name", "output"))
        table.add_row(state.name, state.status, started, *facts)
    Console().print(table)


def stop_job(client: JobClient, name: str) -> None:
    """Asks a job to end."""
    stopped = client.stop(name)
    Console().print("stopping; the same command continues the run" if stopped else "not at work")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
