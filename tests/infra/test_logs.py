"""Log lines: for people and for programs, with ids, without secrets."""

import json
import logging
import threading
from collections.abc import Iterator

import pytest

from generators.errors import ConfigError
from infra.logs import (
    LogSettings,
    concerning,
    hide_secrets,
    log_settings,
    origin,
    start_logging,
)

LOG = logging.getLogger("discl.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    start_logging(log_settings({}))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_say_what_they_concern(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(log_settings({"DISCL_LOG": "json"}))
    with concerning(run="animals", group="g040-1 +7"):
        with concerning(shard="g040-1"):
            about = {"request": "abc", "numbers": {"bytes": 12}}
            LOG.info("image failed: %s", "not_finite", extra=about)
        LOG.debug("not asked for")
    LOG.warning("outside")
    inside, outside = lines(capsys)
    at = inside.pop("time")
    assert isinstance(at, str)
    assert at.endswith("+00:00")
    assert inside == {
        "level": "info",
        "logger": "discl.test",
        "message": "image failed: not_finite",
        "run": "animals",
        "group": "g040-1 +7",
        "shard": "g040-1",
        "request": "abc",
        "bytes": 12,
    }
    assert outside.keys() == {"time", "level", "logger", "message"}


def test_an_error_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogSettings(form="json"))
    try:
        raise KeyError("gone")
    except KeyError:
        LOG.exception("reading failed")
    (line,) = lines(capsys)
    assert "KeyError: 'gone'" in str(line["error"])


def test_people_read_one_line_with_ids_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(log_settings({"DISCL_LOG_LEVEL": "info"}))
    with concerning(run="animals"):
        LOG.info("shard written", extra={"shard": "g040-1", "numbers": {"bytes": 12}})
    line = capsys.readouterr().err
    assert line.endswith(" info shard written [run=animals shard=g040-1 bytes=12]\n")
    start_logging(log_settings({}))
    LOG.info("people see what went wrong only")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_of_the_environment_never_get_through(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = 'sesame"open\\1234'
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("DISCL_LOG", form)
    start_logging(log_settings())
    with concerning(shard=f"s3://x?{secret}"):
        try:
            raise KeyError(f"denied for {secret}")
        except KeyError:
            LOG.exception("signed with %s", secret, extra={"numbers": {"key": secret}})
    text = capsys.readouterr().err
    assert "sesame" not in text
    assert text.count("[hidden]") >= 3


def test_short_values_and_other_variables_stay() -> None:
    environment = {"TOKEN": "true", "HOME": "/home/somebody", "MY_PASSWORD": "hunter2!"}
    text = "true /home/somebody hunter2!"
    assert hide_secrets(text, environment) == "true /home/somebody [hidden]"


def test_what_travels_with_a_job() -> None:
    with concerning(run="animals", group="g"):
        sent = origin()
    seen: list[dict[str, str]] = []

    def elsewhere() -> None:
        with concerning(**sent.fields):
            seen.append(dict(origin().fields))

    thread = threading.Thread(target=elsewhere)  # has no context of its own
    thread.start()
    thread.join()
    assert seen == [{"run": "animals", "group": "g"}]
    assert sent.run == "animals"


@pytest.mark.parametrize(("name", "value"), [("DISCL_LOG", "xml"), ("DISCL_LOG_LEVEL", "loud")])
def test_unknown_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{value}"):
        log_settings({name: value})
