"""What a user sees while a run works."""

import io
import json
import re
import threading
import time

import pytest
from rich.console import Console

from infra.logs import LogSettings, start_logging
from infra.progress import EventBoard, LiveBoard, LogBoard, board_for


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=120, color_system=None), stream


def test_lines_tell_stage_units_rate_and_time_left() -> None:
    shown, stream = console()
    with LogBoard(shown, every=0).stage("generate", 40, "images") as stage:
        time.sleep(0.1)
        stage.advance(10)
    first, middle, last = stream.getvalue().splitlines()
    assert first == "generate: 40 images"
    found = re.fullmatch(r"generate: 10/40 images, ([\d.]+) images/s, eta (\d+) s", middle)
    assert found is not None
    rate, left = float(found[1]), int(found[2])
    assert 20 < rate <= 100  # 10 images in a tenth of a second, or a little more
    assert left == pytest.approx(30 / rate, abs=1)
    assert re.fullmatch(r"generate: done in \d\.\d s", last)


def test_what_a_continued_stage_finds_does_not_count_for_its_rate_for_long() -> None:
    shown, stream = console()
    with LogBoard(shown, every=0).stage("fit", 1020, "steps") as stage:
        time.sleep(0.05)
        stage.advance(1000)
        for _ in range(10):
            time.sleep(0.02)
            stage.advance(1)
    rate, left = re.findall(r"([\d.]+) steps/s, eta (\d+) s", stream.getvalue())[-1]
    assert 1 < float(rate) <= 50  # one in 0.02 s, or a little more
    assert int(left) <= 10


def test_the_rate_counts_from_the_first_units_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.progress.SETTLED_SECONDS", 0.1)
    shown, stream = console()
    with LogBoard(shown, every=0).stage("fit", 2360, "steps") as stage:
        time.sleep(0.3)  # longer than half of all
        stage.advance(2350)
        time.sleep(0.12)
        stage.advance(1)
    rate, left = re.findall(r"([\d.]+) steps/s, eta (\d+) s", stream.getvalue())[-1]
    assert 0 < float(rate) <= 1 / 0.12
    assert int(left) >= 1


def test_lines_come_only_every_few_seconds() -> None:
    shown, stream = console()
    with LogBoard(shown, every=60).stage("generate", 1000, "images") as stage:
        for _ in range(1000):
            stage.advance(1)
    assert len(stream.getvalue().splitlines()) == 2


def test_a_stage_that_fails_does_not_say_it_is_done() -> None:
    shown, stream = console()
    with pytest.raises(KeyError), LogBoard(shown).stage("train", 3, "epochs"):
        raise KeyError("x")
    assert stream.getvalue() == "train: 3 epochs\n"


def test_bars_show_stage_units_and_rate_and_stay() -> None:
    shown, stream = console(terminal=True)
    with LiveBoard(shown) as board:
        board.say("a line [not markup] of any length " + "x" * 200)
        with board.stage("generate", 3, "images") as stage:
            stage.advance(2)
            stage.advance(1)
        with board.stage("train", 8, "epochs") as stage:
            stage.advance(5)
            stage.advance(-2)  # the worker died: its units are taken back
    text = stream.getvalue()
    assert "a line [not markup] of any length " + "x" * 200 in text
    bars = text[text.rindex("generate") :].splitlines()  # as they stand at the end
    assert re.match(r"generate .* 3/3 .* [\d.]+ images/s", bars[0])
    assert re.search(r"train .* 3/8 .* [\d.]+ epochs/s", bars[1])


def test_units_from_many_threads_are_all_counted() -> None:
    shown, stream = console()
    board = LogBoard(shown, every=0)
    with board.stage("generate", 800, "images") as stage:

        def work() -> None:
            for _ in range(100):
                stage.advance(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = [int(n) for n in re.findall(r"generate: (\d+)/800", stream.getvalue())]
    assert counts == list(range(1, 801))


def test_bars_in_a_terminal_and_lines_elsewhere() -> None:
    with board_for(console(terminal=True)[0]) as board:
        assert isinstance(board, LiveBoard)
    with board_for(console()[0]) as board:
        assert isinstance(board, LogBoard)


def test_programs_get_records_of_stages(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogSettings(form="json", level="info"))
    board = EventBoard(every=0)
    board.say("starting")
    with board.stage("generate", 4, "images") as stage:
        stage.advance(3)
    start_logging(LogSettings())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == [
        "starting",
        "stage begins",
        "stage at work",
        "stage done",
    ]
    about = {"stage": "generate", "total": 4, "unit": "images"}
    assert all(about.items() <= line.items() for line in lines[1:])
    assert lines[2]["done"] == 3
    assert lines[2]["per_second"] > 0
    assert lines[3]["seconds"] >= 0


def test_the_environment_chooses_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCL_LOG", "json")
    with board_for(console(terminal=True)[0]) as board:
        assert isinstance(board, EventBoard)
