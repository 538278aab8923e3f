"""`discl top-up`: what a growing data set still lacks, under a budget."""

from rich.console import Console

from infra.cli.execute import end, flow_setting
from infra.config import RunConfig
from infra.jobs.opening import open_run
from infra.jobs.top_up import Budget


def execute_top_up(config: RunConfig, output: str | None, budget: Budget, *, update: bool) -> None:
    """Tops a data set up; says what was done.

    Raises:
        typer.Exit: with code 3, where shards were given up.
    """
    console = Console()
    with (
        open_run(config, output, update=update, growing=True) as opened,
        flow_setting(console, opened.store.local),
    ):
        from flows.top_up import top_up

        top_up(config, budget_images=budget.images, budget_evaluations=budget.evaluations)
    end(console, opened.store)
