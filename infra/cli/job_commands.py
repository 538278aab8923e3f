"""The commands for jobs of a Ray cluster; what they do is in `infra.cli.submit`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.options import (
    ConfigArgument,
    OutputOption,
    OverlapOption,
    PresetOption,
    RetryOption,
    ReuseOption,
    SetOption,
    UpdateOption,
    exit_codes,
    read,
)

AddressOption = Annotated[
    str,
    typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard."),
]
WorkingDirOption = Annotated[
    Path | None,
    typer.Option(
        "--working-dir",
        help="Uploaded; the run starts in it; holds the config (default: the config alone).",
    ),
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="Pass a variable of this shell on; repeatable."),
]
SharedOption = Annotated[
    bool,
    typer.Option("--shared-disk", help="Paths of --output and --reuse are the same on all nodes."),
]
FollowOption = Annotated[
    bool, typer.Option("--follow/--no-follow", help="Show what the run writes, until it ends.")
]
JobArgument = Annotated[str, typer.Argument(help="As printed by `discl submit`.")]
DASHBOARD = "http://127.0.0.1:8265"

jobs = typer.Typer(help="See, follow and stop the jobs of a Ray cluster.", no_args_is_help=True)


def submit(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    update: UpdateOption = False,
    overlap: OverlapOption = False,
    reuse: ReuseOption = None,
    retry_quarantined: RetryOption = False,
    address: AddressOption = DASHBOARD,
    working_dir: WorkingDirOption = None,
    env: EnvOption = None,
    shared_disk: SharedOption = False,
    follow: FollowOption = True,
) -> None:
    """Run the whole job on a Ray cluster: `discl run` there, followed from here.

    Ends with the run's own exit code. Ctrl-C ends the following only; submit again to continue a
    run that was stopped.
    """
    with exit_codes():
        from infra.cli.submit import ON_CLUSTER, Submission, submit

        checked = read(config, preset, [*(assignments or []), *ON_CLUSTER], None)
        places = [("--output", output)] if output else []
        places += [("--reuse", folder) for folder in reuse or []]
        flags = {
            "--update": update,
            "--overlap": overlap,
            "--retry-quarantined": retry_quarantined,
        }
        given = [("--preset", preset)] if preset else []
        given += [*places, *(("--set", change) for change in [*(assignments or []), *ON_CLUSTER])]
        submission = Submission(
            config=config,
            options=[*(word for pair in given for word in pair), *(f for f in flags if flags[f])],
            places=places,
            working_dir=working_dir,
            variables=env or [],
            shared_disk=shared_disk,
        )
        submit(checked, submission, address, follow=follow)


@jobs.command("list")
def list_jobs(address: AddressOption = DASHBOARD) -> None:
    """All jobs that were submitted, the latest first."""
    with exit_codes():
        from infra.cli.submit import show_jobs
        from infra.workers.ray_jobs import JobClient

        show_jobs(JobClient(address))


@jobs.command()
def status(job: JobArgument, address: AddressOption = DASHBOARD) -> None:
    """What has become of a job."""
    with exit_codes():
        from infra.cli.submit import show_job
        from infra.workers.ray_jobs import JobClient

        show_job(JobClient(address), job)


@jobs.command()
def follow(job: JobArgument, address: AddressOption = DASHBOARD) -> None:
    """Show what a job writes, from its begin to its end; ends with its exit code."""
    with exit_codes():
        from infra.cli.submit import follow_job
        from infra.workers.ray_jobs import JobClient

        follow_job(JobClient(address), job)


@jobs.command()
def stop(job: JobArgument, address: AddressOption = DASHBOARD) -> None:
    """End a job. What it has finished is kept; submitted again, it goes on from there."""
    with exit_codes():
        from infra.cli.submit import stop_job
        from infra.workers.ray_jobs import JobClient

        stop_job(JobClient(address), job)
