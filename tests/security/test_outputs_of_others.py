"""A run may be continued in a folder of somebody else: nothing that lies there is run."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

from infra.prefect_server import PLAIN_RESULTS, PrivateServer, disarm
from tasks.settings import CACHED
from tests.support.planted import planted_pickle

KEY = "generate-1"
PICKLE = {"type": "pickle", "picklelib": "cloudpickle"}
CLASSES = {**PLAIN_RESULTS, "object_decoder": "prefect.serializers.prefect_json_object_decoder"}


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What appears where the module `planted`, which can be imported, is imported."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "planted.py").write_text(
        f"import os\nfrom json import *\nos.mkdir({str(tmp_path / 'mark')!r})\nclass Evil: ...\n"
    )
    monkeypatch.syspath_prepend(folder)
    yield tmp_path / "mark"
    sys.modules.pop("planted", None)


def results_in(folder: Path) -> Any:
    """Results as the tasks of a run store and find them."""
    files = LocalFileSystem(basepath=str(folder / "results"))
    return ResultStore(result_storage=files, serializer=CACHED["result_serializer"])


def record(result: str, serializer: object) -> dict[str, object]:
    return {"metadata": {"storage_key": KEY, "serializer": serializer}, "result": result}


def plant(home: Path, text: str) -> Path:
    (home / "results").mkdir(parents=True)
    (home / "results" / KEY).write_text(text)
    return home


def test_our_own_results_and_the_history_are_kept(tmp_path: Path) -> None:
    made = [{"ref": {"name": "g000-1"}, "cost": {"seconds": 1.5}}]
    results_in(tmp_path).write(key=KEY, obj=made)
    (tmp_path / "prefect.db").write_bytes(b"history")
    disarm(tmp_path)
    assert results_in(tmp_path).read(KEY).result == made
    assert (tmp_path / "prefect.db").read_bytes() == b"history"


@pytest.mark.parametrize("kind", ["pickle", "class", "library", "old form"])
def test_results_that_would_run_something_are_removed(
    kind: str, tmp_path: Path, mark: Path
) -> None:
    pickled = base64.encodebytes(planted_pickle(mark)).decode()
    records = {
        "pickle": record(pickled, PICKLE),
        "class": record('{"__class__": "planted.Evil", "data": {}}', CLASSES),
        "library": record("{}", {**PLAIN_RESULTS, "jsonlib": "planted"}),
        "old form": {**record(pickled, PLAIN_RESULTS), "serializer": PICKLE},
    }
    home = plant(tmp_path / "prefect", json.dumps(records[kind]))
    with suppress(Exception):  # Prefect's own, after it has been run
        results_in(home).read(KEY)
    assert mark.exists()  # so it is a danger
    mark.rmdir()
    disarm(home)
    with pytest.raises(ValueError, match=KEY):
        results_in(home).read(KEY)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"metadata": {"serializer": {"type": "pickle"}}, "metadata": PLAIN, "result": "{}"}',
        '{"metadata": PLAIN, "result": "x", "result": "{}"}',
        "[]",
        "{}",
        "no JSON",
        "",
    ],
)
def test_what_is_no_plain_result_is_removed(text: str, tmp_path: Path) -> None:
    plain = json.dumps({"storage_key": KEY, "serializer": PLAIN_RESULTS})
    home = plant(tmp_path / "prefect", text.replace("PLAIN", plain))
    (home / "results" / "link").symlink_to("/dev/zero")
    os.mkfifo(home / "results" / "pipe")
    (home / "results" / "folder").mkdir()
    disarm(home)
    assert [path.name for path in (home / "results").iterdir()] == ["folder"]


def test_links_to_folders_of_the_user_are_cut(tmp_path: Path) -> None:
    mine, home = tmp_path / "mine", tmp_path / "run" / "prefect"
    mine.mkdir()
    home.parent.mkdir()
    for name in ("profiles.toml", "logging.yml", "thesis.tex"):
        (mine / name).write_text("mine")
    home.symlink_to(mine)
    disarm(home)
    (home / "results").symlink_to(mine)
    disarm(home)
    assert sorted(path.read_text() for path in mine.iterdir()) == ["mine"] * 3
    assert not home.is_symlink()
    assert not (home / "results").exists()


@pytest.fixture
def without_settings(tmp_path: Path) -> Iterator[None]:
    """A user without Prefect settings; the environment is put back afterwards."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["HOME"] = str(tmp_path / "home")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
def test_the_private_server_calls_no_functions_that_a_folder_names(
    without_settings: None, tmp_path: Path
) -> None:
    home, mark = tmp_path / "run" / "prefect", tmp_path / "mark"
    loggers = {
        "version": 1,
        "handlers": {"evil": {"()": "os.mkdir", "path": str(mark)}},
        "root": {"handlers": ["evil"], "level": "INFO"},
    }
    home.mkdir(parents=True)
    (home.parent / "loggers.yml").write_text(json.dumps(loggers))
    (home / "logging.yml").write_text(json.dumps(loggers))
    (home / "profiles.toml").write_text(
        'active = "evil"\n[profiles.evil]\n'
        f'PREFECT_LOGGING_SETTINGS_PATH = "{home.parent / "loggers.yml"}"\n'
    )
    server = PrivateServer(home)
    try:
        server.wait()
    finally:
        server.stop()
    assert not mark.exists()
    assert not (home / "logging.yml").exists()
