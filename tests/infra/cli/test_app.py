"""The commands: what they offer, and how they end."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from generators.errors import ConfigError, SampleRejected
from generators.registry import FAMILIES, names
from infra.cli.app import app, exit_codes
from infra.errors import RunFailed, WorkerError
from infra.machine import PACKAGES
from tests.infra.jobs.world import config_for, contents, generate, prepare

WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
COMMANDS = {
    "run": ["--preset", "--output", "--set", "--workers", "--update", "--overlap", "--reuse"],
    "generate": ["--preset", "--output", "--set", "--workers", "--update", "--reuse"],
    "train": ["--preset", "--output", "--set", "--workers", "--update", "--overlap", "--reuse"],
    "study": ["--preset", "--output", "--set", "--workers", "--update", "--overlap", "--reuse"],
    "predict": ["--output", "--device"],
    "plan": ["--preset", "--output", "--set", "--reuse"],
    "fit": ["--preset", "--output", "--set", "--workers"],
    "fit-guidance": ["--preset", "--output", "--set", "--method", "--max-images", "--device"],
    "top-up": ["--budget-images", "--budget-evaluations"],
    "serve": ["--flow", "--cron", "--every"],
    "deploy": ["--pool", "--flow", "--cron", "--every"],
    "submit": ["--output", "--address", "--working-dir", "--env", "--shared-disk", "--follow"],
    "verify": ["--json"],
    "report": ["Folder"],
    "methods": ["family", "--json"],
    "doctor": [],
}


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, words, env=WIDE)


def test_help_names_every_command() -> None:
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in shown.output
    assert "discl run --preset digits" in shown.output


def test_the_list_of_commands_here_is_complete() -> None:
    registered = {
        item.name or item.callback.__name__ for item in app.registered_commands if item.callback
    }
    assert registered == set(COMMANDS)


@pytest.mark.parametrize(("command", "options"), COMMANDS.items())
def test_help_of_a_command_names_its_options(command: str, options: Sequence[str]) -> None:
    shown = invoke(command, "--help")
    assert shown.exit_code == 0
    for option in (*options, "--help"):
        assert option in shown.output


HELP_IS_LIGHT = """
import sys
from typer.testing import CliRunner
from infra.cli.app import app
for words in (["--help"], ["run", "--help"], ["plan", "--help"], ["methods", "--help"]):
    assert CliRunner().invoke(app, words).exit_code == 0
heavy = {"torch", "numpy", "prefect", "ray", "diffusers", "pyarrow", "timm"}
print(sorted(heavy & set(sys.modules)))
"""


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-c", HELP_IS_LIGHT]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_takes_less_than_a_second() -> None:
    times = []
    for _ in range(3):
        started = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "infra.cli", "--help"], capture_output=True, text=True
        )
        times.append(time.monotonic() - started)
        assert run.returncode == 0
        assert "Usage: discl" in run.stdout or "Usage: python -m infra.cli" in run.stdout
    assert statistics.median(times) < 2  # 0.2 s on an idle machine; the budget is 1 s


def test_methods_lists_every_family_with_its_parameters() -> None:
    shown = invoke("methods")
    assert shown.exit_code == 0
    for family in FAMILIES:
        assert f"\n{family}" in f"\n{shown.output}"
        for name in names(family):
            assert name in shown.output
    assert "guidance_scale: float >= 0, <= 100 = 2.0" in shown.output
    assert re.search(r"runtime: section *\n *dtype: auto", shown.output)  # its own lines, indented


def test_methods_of_a_family_for_programs() -> None:
    found = json.loads(invoke("methods", "guidance", "--json").output)
    assert [item["name"] for item in found] == list(names("guidance"))
    (cfg,) = (item for item in found if item["name"] == "cfg")
    assert cfg["family"] == "guidance"
    assert cfg["parameters"][0] == {
        "name": "guidance_scale",
        "type": "float >= 0, <= 100",
        "default": 2.0,
        "required": False,
        "parameters": [],
    }
    assert "arXiv:2207.12598" in cfg["paper"]
    assert cfg["cost"].startswith("2 evaluations")


def test_methods_of_all_families_are_json() -> None:
    found = json.loads(invoke("methods", "--json").output)
    assert {item["family"] for item in found} == set(FAMILIES)


def test_an_unknown_family_lists_those_there_are() -> None:
    shown = invoke("methods", "guidanc")
    assert shown.exit_code == 2
    assert "did you mean 'guidance'?" in shown.stderr


def test_doctor_tells_what_is_there_and_what_is_slow() -> None:
    shown = invoke("doctor")
    assert shown.exit_code == 0
    for name in ("python", "processor", "memory", "disk here", "devices", *PACKAGES):
        assert name in shown.output
    assert "no GPU" in shown.output or "cuda" in shown.output.lower()


def test_plan_prints_the_numbers_of_a_plan(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.jobs.inspect.TIMED_SECONDS", 0.02)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(config_for(image_folder).identity()))
    shown = invoke("plan", str(config))
    assert shown.exit_code == 0, shown.output
    table = {line.split()[1]: line.split() for line in shown.output.splitlines() if "│" in line}
    assert [word for word in table["rare"] if word != "│"] == ["rare", "few", "3", "6", "6", "6"]
    assert [word for word in table["all"] if word != "│"] == ["all", "19", "6", "6", "6"]
    assert "images             18" in shown.output
    assert "model evaluations  72 for what is new" in shown.output
    assert not (tmp_path / "runs").exists()


def test_plan_of_real_images_alone_asks_no_generator(image_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(config_for(image_folder).identity()))
    real = ["plan", str(config), "-s", "generation={}", "-s", "compare={}"]
    repeated, as_they_are = "{schedule: repeat, tail_share: 0.5}", "{schedule: none}"
    shown = invoke(*real, "-s", f"curriculum={repeated}")
    assert shown.exit_code == 0, shown.output
    assert "rare" in shown.output
    assert "images             none: there are no generation.levels" in shown.output
    none_is_hard = "hard_set.threshold=1"  # which matters only where an arm asks for hard images
    assert invoke(*real, "-s", f"curriculum={as_they_are}", "-s", none_is_hard).exit_code == 0
    refused = invoke(*real, "-s", f"curriculum={repeated}", "-s", none_is_hard)
    assert refused.exit_code == 2
    assert "the hard set is empty" in refused.output


def test_plan_counts_what_an_output_has(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.jobs.inspect.TIMED_SECONDS", 0.02)
    world = prepare(image_folder, tmp_path / "run")
    generate(world)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(world.config.identity()))
    before = contents(world.store.root)
    plan = ["plan", str(config), "-o", str(world.store.root)]
    levels = ["-s", "generation.levels=[0, 25, 50]"]
    shown = invoke(*plan, *levels)  # the schedule in the file has levels of its own: not 25
    assert "0 new, 12 reused, 0 copied, 6 stale" in shown.output
    assert (
        "not made           not read by any arm: 25 %; saves 6 images and 36 model evaluations"
        in shown.output
    )
    shown = invoke(*plan, *levels, "-s", "curriculum.schedule.levels=[0, 25, 50]")
    assert "6 new, 12 reused, 0 copied, 6 stale" in shown.output
    assert "not read" not in shown.output
    shown = invoke(*plan, "-s", "hard_set.threshold=10")
    assert "36 new, 0 reused, 18 copied, 18 stale" in shown.output
    assert contents(world.store.root) == before


def test_images_of_another_run_are_counted_and_a_wrong_folder_is_named(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.jobs.inspect.TIMED_SECONDS", 0.02)
    world = prepare(image_folder, tmp_path / "run")
    generate(world)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(world.config.identity()))
    shown = invoke("plan", str(config), "--reuse", str(world.store.root))
    assert "0 new, 0 reused, 18 copied, 0 stale" in shown.output
    for command in ("plan", "run", "generate", "train"):
        words = [command, str(config), "-o", str(tmp_path / "x"), "--reuse", str(image_folder)]
        wrong = invoke(*words)
        assert wrong.exit_code == 2
        assert f"--reuse {image_folder}: not the folder of a run" in wrong.output
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a.b", [3], "4"), 2, "error a.b: [3] is not allowed; expected 4"),
        (RunFailed("3 of 4 units failed"), 1, "failed 3 of 4 units failed"),
        (WorkerError("[died]"), 1, "failed [died]"),
        (SampleRejected("unreadable_image", "x"), 1, "failed unreadable_image: x"),
        (KeyboardInterrupt(), 130, "the same command continues the run"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, exit_codes():
        raise error
    assert caught.value.exit_code == code
    assert text in capsys.readouterr().err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_codes():
        _ = 1 / 0


def test_nothing_phones_home() -> None:
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
