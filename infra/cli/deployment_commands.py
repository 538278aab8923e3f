"""The commands that make Prefect deployments; what they do is in `infra.cli.deployments`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.options import (
    BudgetEvaluationsOption,
    BudgetImagesOption,
    ConfigArgument,
    OutputOption,
    PresetOption,
    SetOption,
    exit_codes,
    read,
)

if TYPE_CHECKING:
    from infra.cli.deployments import Wish

FlowOption = Annotated[
    str,
    typer.Option(
        "--flow", help="run, study, generate, train, top-up or audit (checks the output)."
    ),
]
NameOption = Annotated[
    str, typer.Option("--name", help="Of the deployment (default: the config's name).")
]
CronOption = Annotated[
    str, typer.Option("--cron", help="When, in UTC, e.g. '0 2 * * *': every night at two.")
]
EveryOption = Annotated[
    int | None, typer.Option("--every", metavar="MINUTES", help="The same by interval.")
]
SecretsOption = Annotated[
    str | None,
    typer.Option(help="A Prefect Secret block: a JSON object of environment variables."),
]
PoolOption = Annotated[str, typer.Option("--pool", help="Work pool whose workers start the runs.")]


def serve(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    flow: FlowOption = "run",
    name: NameOption = "",
    cron: CronOption = "",
    every: EveryOption = None,
    secrets: SecretsOption = None,
    budget_images: BudgetImagesOption = None,
    budget_evaluations: BudgetEvaluationsOption = None,
) -> None:
    """Make a config a Prefect deployment and run it here when it is due. Needs no worker.

    Uses the Prefect API that is configured, else a private one. Ctrl-C ends it.
    """
    with exit_codes():
        from infra.cli.deployments import Wish, serve

        wish = Wish(flow=flow, name=name, output=output, cron=cron, every_minutes=every)
        serve(
            read(config, preset, assignments, None),
            _with(wish, secrets, budget_images, budget_evaluations),
        )


def deploy(
    pool: PoolOption,
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    flow: FlowOption = "run",
    name: NameOption = "",
    cron: CronOption = "",
    every: EveryOption = None,
    secrets: SecretsOption = None,
    budget_images: BudgetImagesOption = None,
    budget_evaluations: BudgetEvaluationsOption = None,
) -> None:
    """Make a config a Prefect deployment for the workers of a work pool.

    `prefect.yaml` has the same flows as templates for `prefect deploy`.
    """
    with exit_codes():
        from infra.cli.deployments import Wish, deploy

        wish = Wish(flow=flow, name=name, output=output, cron=cron, every_minutes=every)
        deploy(
            read(config, preset, assignments, None),
            _with(wish, secrets, budget_images, budget_evaluations),
            pool,
        )


def _with(wish: "Wish", secrets: str | None, images: int | None, evaluations: int | None) -> "Wish":
    """The wish with what only some flows take."""
    from dataclasses import replace

    given: dict[str, Any] = {"budget_images": images, "budget_evaluations": evaluations}
    parameters = {name: value for name, value in given.items() if value is not None}
    return replace(wish, secrets=secrets, parameters=parameters)
