"""What a private Prefect server begins with."""

import sqlite3
from pathlib import Path

import pytest

from infra.prefect_database import FOREIGN, NAME, give_database


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def test_a_new_server_gets_an_empty_database_with_all_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "cache"))  # or it copies what was made before
    home = tmp_path / "home"
    home.mkdir()
    give_database(home)
    assert [path.name for path in home.iterdir()] == [NAME]
    assert {"flow_run", "task_run", "alembic_version"} <= tables(home / NAME)
    with sqlite3.connect(home / NAME) as database:
        assert database.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_database_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"history")
    give_database(tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"history"


def test_where_none_can_be_made_the_server_sees_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setenv("DISCL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "home").mkdir()
    give_database(tmp_path / "home")
    assert "no database to copy" in capfd.readouterr().err
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_database_of_the_users_own_is_not_doubled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "postgresql+asyncpg://somewhere/prefect")
    give_database(tmp_path)
    assert not list(tmp_path.iterdir())
