"""Structured logs: what happened, and to which run, shards, shard and request.

`discl.…` loggers write to standard error, a line a record: for people, or JSON (`DISCL_LOG=json`).
Values of environment variables whose names look secret never get through.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote

from generators.errors import ConfigError

FORMAT, LEVEL = "DISCL_LOG", "DISCL_LOG_LEVEL"
LEVELS: Final = ("debug", "info", "warning", "error")
FIELDS: Final = ("run", "group", "shard", "request")
"""What a record may concern, from large to small."""
SECRET_NAME: Final = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_KEY|ACCESS_KEY", re.I)
SHORTEST_SECRET = 6
"""Shorter values are words such as `true`, and would black out innocent text."""
HIDDEN: Final = "[hidden]"

_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log_context")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How this process logs.

    Attributes:
        form: lines for people, or JSON.
        level: least severe level that is written.
    """

    form: Literal["text", "json"] = "text"
    level: str = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOrigin:
    """What travels with a job, so that its worker's lines say what they belong to.

    Attributes:
        settings: of the driver.
        fields: run and shard group.
    """

    settings: LogSettings
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> str:
        """Name of the run; empty outside of one."""
        return self.fields.get("run", "")


def log_settings(environment: Mapping[str, str] = os.environ) -> LogSettings:
    """The settings in the environment: JSON lines from `info` on, text from `warning` on.

    Raises:
        ConfigError: an unknown format or level.
    """
    form = environment.get(FORMAT, "text").lower()
    if form not in ("text", "json"):
        raise ConfigError(FORMAT, form, "text or json")
    level = environment.get(LEVEL, "info" if form == "json" else "warning").lower()
    if level not in LEVELS:
        raise ConfigError(LEVEL, level, " or ".join(LEVELS))
    return LogSettings(form="json" if form == "json" else "text", level=level)


def start_logging(settings: LogSettings) -> None:
    """Makes `discl.…` loggers of this process write to standard error. Doing it twice is fine."""
    logger = logging.getLogger("discl")
    logger.setLevel(settings.level.upper())
    logger.propagate = False
    handler = _StandardError()
    handler.setFormatter(JsonFormatter() if settings.form == "json" else TextFormatter())
    logger.handlers[:] = [handler]


@contextmanager
def concerning(**fields: str) -> Iterator[None]:
    """Records of the block say what they concern: `run`, `group`, `shard`, `request`."""
    token = _CONTEXT.set({**_CONTEXT.get({}), **fields})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def origin() -> LogOrigin:
    """What a job on another process is told."""
    return LogOrigin(settings=log_settings(), fields=dict(_CONTEXT.get({})))


def hide_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without values of environment variables whose names look secret.

    Also where they are escaped: in a repr, in JSON, in a URL.
    """
    for name, value in environment.items():
        if len(value) >= SHORTEST_SECRET and SECRET_NAME.search(name):
            for written in {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, "")}:
                text = text.replace(written, HIDDEN)
    return text


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, what it concerns, and extra numbers."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_concern(record),
            **_numbers(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        # Before it is JSON, a secret with a quote in it would hide behind its escape.
        clean = {name: _clean(value) for name, value in entry.items()}
        return json.dumps(clean, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, message, and what it concerns in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        about = {**_concern(record), **_numbers(record)}
        words = " ".join(f"{name}={value}" for name, value in about.items())
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower()} {record.getMessage()}"
        line += f" [{words}]" * bool(words)
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return hide_secrets(line)


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is now: a display of bars replaces it while it moves."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody reads any more; the work goes on
            return


def _concern(record: logging.LogRecord) -> dict[str, str]:
    given = {**_CONTEXT.get({}), **record.__dict__}
    return {name: str(given[name]) for name in FIELDS if name in given}


def _numbers(record: logging.LogRecord) -> dict[str, object]:
    """What a caller has given as `extra={"numbers": {...}}`."""
    found: dict[str, object] = record.__dict__.get("numbers", {})
    return found


def _clean(value: object) -> object:
    return hide_secrets(value) if isinstance(value, str) else value
