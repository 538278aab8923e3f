"""Commands and their options; each command's work is in a module of its own."""

import os
import sys
from pathlib import Path
from typing import Annotated

# Nothing phones home. Set before any library reads it; the user's own settings win.
for _name, _value in (
    ("DO_NOT_TRACK", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
):
    os.environ.setdefault(_name, _value)

import typer

from infra.cli.deployment_commands import deploy, serve
from infra.cli.job_commands import jobs, submit
from infra.cli.options import (
    BudgetEvaluationsOption,
    BudgetImagesOption,
    ConfigArgument,
    OutputOption,
    OverlapOption,
    PresetOption,
    RetryOption,
    ReuseOption,
    SetOption,
    UpdateOption,
    WorkersOption,
    changes,
    exit_codes,
    read,
)
from infra.cli.watch_options import watch

app = typer.Typer(
    name="discl",
    help=(
        "Grow a long-tailed image data set with guided diffusion, and train a better classifier "
        "on it.\n\n"
        "Try it: [bold]discl run --preset digits --output runs/demo[/bold] needs no data, no GPU "
        "and no network."
    ),
    epilog=(
        "Exit codes: 0 done, 1 failed, 2 a mistake in config or data, 3 done but for shards that "
        "were given up, 130 stopped by the user."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.callback()(watch)


@app.command(epilog="Example: discl run animals.yaml -o runs/animals -s training.seeds=5")
def run(
    context: typer.Context,
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    overlap: OverlapOption = False,
    reuse: ReuseOption = None,
    retry_quarantined: RetryOption = False,
) -> None:
    """The whole job: generate, train with and without, compare, write the report.

    Stop it at any time: the same command continues it. A finished run does no work again.
    """
    with exit_codes():
        from infra.cli.execute import Options, execute

        options = Options(
            update=update,
            overlap=overlap,
            reuse=reuse or [],
            retry_quarantined=retry_quarantined,
        )
        kind = context.info_name or "run"  # `train` and `study` are this too
        execute(kind, read(config, preset, assignments, workers), output, options)


@app.command()
def generate(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    reuse: ReuseOption = None,
    retry_quarantined: RetryOption = False,
) -> None:
    """Only make the synthetic images: WebDataset shards and a Parquet manifest."""
    with exit_codes():
        from infra.cli.execute import Options, execute

        options = Options(update=update, reuse=reuse or [], retry_quarantined=retry_quarantined)
        execute("generate", read(config, preset, assignments, workers), output, options)


app.command(
    "train",
    help="Train every arm on what `generate` made (and make what is missing); no report.",
)(run)


app.command(
    "study",
    help=(
        "Train every arm with every treatment of `study` over all seeds: one table with intervals, "
        "and tests against the best arm on real images."
    ),
    epilog="Example: discl study --preset digits_study -o runs/study",
)(run)


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


@app.command(epilog="Example: discl predict runs/animals/training/curriculum-seed0-... photos/")
def predict(
    checkpoint: Annotated[str, typer.Argument(help="classifier.safetensors, or its folder.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of them, Parquet files; paths or URLs.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file (default: standard output).")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Classify images with a trained classifier; says how many are right where classes are known.

    A class is known where the folder of an image has a class's name, or a Parquet file has a
    column `label` of names or numbers.
    """
    with exit_codes():
        from infra.cli.predict import show_predictions

        show_predictions(checkpoint, images, output, device)


@app.command(name="top-up", epilog="Example: discl top-up animals.yaml --budget-images 500")
def top_up(
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: OutputOption = None,
    assignments: SetOption = None,
    workers: WorkersOption = None,
    update: UpdateOption = False,
    budget_images: BudgetImagesOption = None,
    budget_evaluations: BudgetEvaluationsOption = None,
) -> None:
    """Take in new real images, generate what the tail still lacks, commit a new manifest version.

    Without anything new, nothing is done. No image is made twice, no version is lost.
    """
    with exit_codes():
        from infra.cli.top_up import execute_top_up
        from infra.jobs.top_up import Budget

        budget = Budget(images=budget_images, evaluations=budget_evaluations)
        execute_top_up(read(config, preset, assignments, workers), output, budget, update=update)


app.command(epilog="Example: discl serve animals.yaml --flow top-up --cron '0 2 * * *'")(serve)
app.command(epilog="Example: discl deploy animals.yaml --pool gpus --cron '0 2 * * *'")(deploy)
app.command(epilog="Example: discl submit animals.yaml -o s3://my-bucket/animals")(submit)
app.add_typer(jobs, name="jobs")


@app.command()
def report(
    output: Annotated[str, typer.Argument(help="Folder or URL of a finished run.")],
) -> None:
    """Write the report of a finished run again, and print its table and path."""
    with exit_codes():
        from infra.cli.execute import rewrite_report

        rewrite_report(output)


@app.command()
def verify(
    output: Annotated[str, typer.Argument(help="Folder or URL of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Read every byte of an output and check it: shards, manifests, leftovers. Changes nothing.

    Exit code 0: clean; 1: a list of problems. May run beside a run at work.
    """
    with exit_codes():
        from infra.cli.verify import show_verification

        show_verification(output, as_json=as_json)


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

        execute_fit(load_fit_config(config, preset, changes(assignments, workers)), output)


@app.command(
    name="fit-guidance",
    epilog=(
        "Example: discl fit-guidance minority animals.yaml -m num_bins=5 -o minority.safetensors"
    ),
)
def fit_guidance(
    method: Annotated[str, typer.Argument(help="Of the family guidance_fit: discl methods.")],
    config: ConfigArgument = None,
    preset: PresetOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File (default: METHOD.safetensors).")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", metavar="KEY=VALUE", help="Of the method; repeatable."),
    ] = None,
    assignments: SetOption = None,
    max_images: Annotated[
        int, typer.Option("--max-images", min=1, help="Training images that are read at most.")
    ] = 2000,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Learn or search once what a guidance method needs; prints the file to name in a config.

    Reads the config's generator, steps, levels and training images; runs in this process.
    """
    with exit_codes():
        from infra.cli.fit_guidance import fit_and_tell

        settings = read(config, preset, assignments, None)
        fit_and_tell(settings, method, parameters or [], output, max_images, device)


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


def main() -> None:
    """Entry point of `discl`."""
    sys.exit(app())
