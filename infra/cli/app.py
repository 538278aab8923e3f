"""Commands and their options; each command's work is in a module of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Nothing phones home. Set before any library reads it; the user's own settings win.
for _name, _value in (
    ("DO_NOT_TRACK", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
):
    os.environ.setdefault(_name, _value)

import typer
from rich.console import Console

if TYPE_CHECKING:
    from infra.config import RunConfig

PRESETS = ", ".join(sorted(path.stem for path in Path(__file__).parents[1].glob("presets/*.yaml")))

app = typer.Typer(
    name="discl",
    help=(
        "Grow a long-tailed image data set with guided diffusion, and train a better classifier "
        "on it.\n\n"
        "Try it: [bold]discl run --preset digits --output runs/demo[/bold] needs no data, no GPU "
        "and no network."
    ),
    epilog="Exit codes: 0 done, 1 failed, 2 a mistake in config or data, 130 stopped by the user.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigArgument = Annotated[
    Path | None, typer.Argument(help="YAML config; or give --preset.", show_default=False)
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", "-p", help=f"A config that ships with the package: {PRESETS}."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run (default: runs/NAME)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY.PATH=VALUE",
        help="Change a config value (YAML), e.g. -s 'generation.levels=\\[0, 50]'; repeatable.",
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option("--workers", "-w", help="ray or local (in this process, to debug)."),
]
UpdateOption = Annotated[
    bool,
    typer.Option("--update", help="Accept a folder of another config; reuse what both share."),
]

ReuseOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--reuse", metavar="DIR", help="Copy images that this other run has too; repeatable."
    ),
]
OverlapOption = Annotated[
    bool,
    typer.Option(
        "--overlap",
        help="Start trainings as soon as the levels they begin with are there; same result.",
    ),
]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors to exit codes: 2 a mistake of the user, 1 a failure, 130 stopped by the user."""
    from generators.errors import DisclError, UserError

    console = Console(stderr=True)
    try:
        yield
    except UserError as error:
        console.print("[red]error[/red]", end=" ")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except DisclError as error:
        console.print("[red]failed[/red]", end=" ")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped; the same command continues the run")
        raise typer.Exit(130) from error


@app.command(epilog="Example: discl run animals.yaml -o runs/animals -s training.seeds=5")
def run(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    overlap: OverlapOption = False,
    reuse: ReuseOption = None,
) -> None:
    """The whole job: generate, train with and without, compare, write the report.

    Stop it at any time: the same command continues it. A finished run does no work again.
    """
    with exit_codes():
        from infra.cli.execute import Options, execute

        options = Options(update=update, overlap=overlap, reuse=reuse or [])
        execute("run", read(config, preset, assignments, workers), output, options)


@app.command()
def generate(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    reuse: ReuseOption = None,
) -> None:
    """Only make the synthetic images: WebDataset shards and a Parquet manifest."""
    with exit_codes():
        from infra.cli.execute import Options, execute

        options = Options(update=update, reuse=reuse or [])
        execute("generate", read(config, preset, assignments, workers), output, options)


@app.command()
def train(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    overlap: OverlapOption = False,
    reuse: ReuseOption = None,
) -> None:
    """Train every arm on what `generate` made (and make what is missing); no report."""
    with exit_codes():
        from infra.cli.execute import Options, execute

        options = Options(update=update, overlap=overlap, reuse=reuse or [])
        execute("train", read(config, preset, assignments, workers), output, options)


@app.command()
def plan(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    reuse: ReuseOption = None,
) -> None:
    """What `generate` would make, without making it: images, model evaluations, bytes, time.

    With the folder of an existing run: what is new, reused, copied from its other shards, and
    stale.
    """
    with exit_codes():
        from infra.cli.show_plan import show_plan

        show_plan(read(config, preset, assignments, None), output, reuse or [])


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
) -> None:
    """Write the report of a finished run again, and print its table and path."""
    with exit_codes():
        from infra.cli.execute import rewrite_report

        rewrite_report(folder)


@app.command()
def fit(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
) -> None:
    """Train a generator and publish it as a folder (`--preset handwriting`: the embedded one)."""
    with exit_codes():
        from infra.cli.execute import execute_fit
        from infra.config import load_fit_config

        changes = _changes(assignments, workers)
        execute_fit(load_fit_config(config, preset, changes), output)


@app.command()
def methods(
    family: Annotated[str | None, typer.Argument(help="Only this family.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every method by family, with its parameters: what may stand in a config."""
    with exit_codes():
        from infra.cli.show_methods import show_methods

        show_methods(family, as_json=as_json)


@app.command()
def doctor() -> None:
    """What is installed, devices, threads, disk, and what would be slow."""
    with exit_codes():
        from infra.cli.doctor import show_doctor

        show_doctor()


def read(
    config: Path | None,
    preset: str | None,
    assignments: list[str] | None,
    workers: str | None,
) -> "RunConfig":
    """The config of a command line."""
    from infra.config import load_config

    return load_config(config, preset, _changes(assignments, workers))


def _changes(assignments: list[str] | None, workers: str | None) -> list[str]:
    return [*(assignments or []), *([f"workers.kind={workers}"] if workers else [])]


def main() -> None:
    """Entry point of `discl`."""
    sys.exit(app())
