"""Options before the command: how a run is watched. They set what the environment may set too."""

import os
from typing import Annotated, Literal

import typer

LogFormatOption = Annotated[
    Literal["text", "json"] | None,
    typer.Option("--log-format", help="Lines for people, or JSON for programs (DISCL_LOG)."),
]
LogLevelOption = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option("--log-level", help="Least severe line that is written (DISCL_LOG_LEVEL)."),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65535,
        help="Answer Prometheus here, on 127.0.0.1, while a run lasts (DISCL_METRICS_PORT).",
    ),
]


def watch(
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    metrics_port: MetricsPortOption = None,
) -> None:
    """Hands the options to whatever the command starts."""
    given = {
        "DISCL_LOG": log_format,
        "DISCL_LOG_LEVEL": log_level,
        "DISCL_METRICS_PORT": metrics_port,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
