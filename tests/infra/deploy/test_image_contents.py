"""What can be shown of the images without building them: the package they install, the commands
they start and the settings they are given."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra/deploy"
COMMANDS = {  # words that choose a command, before its options
    "prefect": ("server start", "worker start"),
    "ray": ("start", "stop", "health-check", "job submit"),
    "discl": ("run",),
}


def documents() -> dict[str, Any]:
    names = ("docker-compose.yml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
    return {name: yaml.safe_load((DEPLOY / name).read_text()) for name in names}


def command_lines() -> Iterator[str]:
    """Every command that compose file, manifests and launcher start."""
    found = documents()
    for service in found["docker-compose.yml"]["services"].values():
        if service["image"].startswith("discl"):
            yield shlex.join(service["command"])
            test = service.get("healthcheck", {}).get("test", ["CMD"])
            yield shlex.join(test[1:])
    yield found["kuberay/rayjob.yaml"]["spec"]["entrypoint"]
    yield from re.findall(r"ray stop[^\"]*", (DEPLOY / "kuberay/rayjob.yaml").read_text())
    launcher = yaml.safe_load((DEPLOY / "ray/cluster.yaml").read_text())
    yield from launcher["head_start_ray_commands"]
    yield from launcher["worker_start_ray_commands"]


def used_options() -> dict[str, set[str]]:
    """Command to the long options it is given."""
    used: dict[str, set[str]] = {}
    for line in command_lines():
        text = line.replace("\n", " ; ")
        for program, choices in COMMANDS.items():
            for choice in choices:
                for match in re.finditer(rf"\b{program} {choice}\b([^;']*)", text):
                    own = re.split(r" -- |\bray |\bdiscl |\bprefect ", match[1])[0]
                    options = set(re.findall(r"(?<!\S)(--[a-z-]+)", own))
                    used.setdefault(f"{program} {choice}", set()).update(options)
    return used


@pytest.mark.parametrize(
    "command", [f"{program} {choice}" for program in COMMANDS for choice in COMMANDS[program]]
)
def test_commands_exist_with_the_options_they_are_given(command: str) -> None:
    used = used_options()[command]
    program, *words = command.split()
    tool = Path(sys.executable).with_name(program)
    wide = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [tool, *words, "--help"], capture_output=True, text=True, timeout=120, env=wide
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    assert used <= known


def test_prefect_knows_the_settings_it_is_given() -> None:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    given = {
        name
        for service in documents()["docker-compose.yml"]["services"].values()
        for name in service.get("environment", {})
        if name.startswith("PREFECT_")
    }
    given |= set(re.findall(r"PREFECT_[A-Z_]+", (DEPLOY / "Dockerfile").read_text()))
    assert len(given) >= 7
    assert given <= set(_get_settings_fields(Settings))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as the Dockerfile installs it: from what it copies, and from nothing else."""
    source = tmp_path_factory.mktemp("image") / "src"
    source.mkdir()
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for name in line.split():
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("deploy", "__pycache__")
                shutil.copytree(ROOT / name, source / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", source.parent, source], check=True, timeout=300)
    (wheel,) = source.parent.glob("*.whl")
    unpacked = source.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def test_the_image_has_everything_the_package_reads(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        found = {
            str(path.relative_to(root))
            for package in ("flows", "tasks", "generators", "curriculum", "infra")
            for path in (root / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and "deploy" not in path.parts
        }
        return {name for name in found if not name.endswith(".pyc")}

    assert files(installed) == files(ROOT)


def test_the_installed_package_works_on_its_own(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    code = "import infra; print(infra.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(installed))
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "plan", "--preset", "digits"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "images" in done.stdout
