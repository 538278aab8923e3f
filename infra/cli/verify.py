"""`discl verify`: whether an output is whole and consistent."""

import json

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from infra.jobs.verify import Verification, verify
from infra.storage.runs import run_store


def show_verification(output: str, *, as_json: bool) -> None:
    """Checks an output, prints what is wrong with it.

    Raises:
        typer.Exit: with code 1, where there are problems.
    """
    console = Console(stderr=True)
    columns = (TextColumn("reading shards"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        store = run_store(output)
        found = verify(store, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        print(json.dumps(as_data(found), indent=2))
    else:
        _show(Console(), found)
    if found.problems:
        raise typer.Exit(1)


def as_data(found: Verification) -> dict[str, object]:
    """Plain data, for programs."""
    return {
        "clean": not found.problems,
        "finished": found.finished,
        "at_work": found.at_work,
        "shards": found.shards,
        "images": found.images,
        "bytes": found.num_bytes,
        "problems": [
            {"path": str(problem.path), "code": problem.code, "detail": problem.detail}
            for problem in found.problems
        ],
    }


def _show(console: Console, found: Verification) -> None:
    for problem in found.problems:
        text = f"[red]{problem.code}[/red] {escape(str(problem.path))}: {escape(problem.detail)}"
        console.print(text, highlight=False, soft_wrap=True)
    state = "finished" if found.finished else "not finished"
    if found.at_work:
        state = f"at work ({found.at_work})"
    verdict = f"{len(found.problems)} problems" if found.problems else "clean"
    size = f"{found.shards:,} shards, {found.num_bytes / 1e6:,.1f} MB, {found.images:,} rows"
    console.print(f"{verdict}: {size}; the run is {state}", highlight=False, soft_wrap=True)
