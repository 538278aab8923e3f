"""Options that several commands share, how errors become exit codes, and how a config is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

if TYPE_CHECKING:
    from infra.config import RunConfig

PRESETS = ", ".join(sorted(path.stem for path in Path(__file__).parents[1].glob("presets/*.yaml")))

INTERRUPTED: Final = 130
"""Exit code of what the user stopped."""

ConfigArgument = Annotated[
    Path | None, typer.Argument(help="YAML config; or give --preset.", show_default=False)
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", "-p", help=f"A config that ships with the package: {PRESETS}."),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="Folder of the run, or its URL: s3://, gs:// (default: runs/NAME)."
    ),
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
    list[str] | None,
    typer.Option(
        "--reuse", metavar="DIR", help="Copy images that this other run has too; repeatable."
    ),
]
RetryOption = Annotated[
    bool,
    typer.Option(
        "--retry-quarantined",
        help="Make shards again that were given up because their workers died.",
    ),
]
OverlapOption = Annotated[
    bool,
    typer.Option(
        "--overlap",
        help="Start trainings as soon as the levels they begin with are there; same result.",
    ),
]
BudgetImagesOption = Annotated[
    int | None,
    typer.Option(help="Most images to generate now (default: all that are missing)."),
]
BudgetEvaluationsOption = Annotated[
    int | None, typer.Option(help="Most model evaluations to spend now.")
]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors to exit codes: 2 a mistake of the user, 1 a failure, 130 stopped by the user."""
    from generators.errors import DisclError, UserError
    from generators.places import StoreError

    console = Console(stderr=True)
    try:
        yield
    except UserError as error:
        console.print("[red]error[/red]", end=" ")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except (DisclError, StoreError) as error:
        console.print("[red]failed[/red]", end=" ")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped; the same command continues the run")
        raise typer.Exit(INTERRUPTED) from error


def read(
    config: Path | None,
    preset: str | None,
    assignments: list[str] | None,
    workers: str | None,
) -> "RunConfig":
    """The config of a command line."""
    from infra.config import load_config

    return load_config(config, preset, changes(assignments, workers))


def changes(assignments: list[str] | None, workers: str | None) -> list[str]:
    """What `--set` and `--workers` change, as assignments."""
    return [*(assignments or []), *([f"workers.kind={workers}"] if workers else [])]
