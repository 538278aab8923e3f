"""Copies of what object stores hold: whole, checked, made once, bounded."""

import hashlib
import os
import secrets
import time
from pathlib import Path

import pytest
from upath import UPath

from generators.errors import ConfigError, DataError
from generators.local_copies import KEPT_SECONDS, local_copy
from generators.places import place


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISCL_CACHE", str(folder))
    return folder


@pytest.fixture
def remote() -> UPath:
    found = place(f"memory://bucket/{secrets.token_hex(8)}")
    assert isinstance(found, UPath)
    return found


def entries(cache: Path) -> list[Path]:
    return [path for path in (cache / "copies").iterdir() if path.is_dir()]


def test_local_places_are_returned_as_they_are(tmp_path: Path, cache: Path) -> None:
    assert local_copy(tmp_path) == tmp_path
    assert not cache.exists()


def test_a_folder_is_copied_once_and_again_when_it_changes(remote: UPath, cache: Path) -> None:
    (remote / "weights.bin").write_bytes(b"w" * 100)
    (remote / "unet" / "config.json").write_bytes(b"{}")
    first = local_copy(remote)
    assert first.name == remote.name
    assert {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()} == {
        "weights.bin",
        "unet/config.json",
    }
    made = (first / "weights.bin").stat().st_mtime_ns
    assert local_copy(remote) == first
    assert (first / "weights.bin").stat().st_mtime_ns == made
    (remote / "weights.bin").write_bytes(b"v" * 100)
    assert (local_copy(remote) / "weights.bin").read_bytes() == b"v" * 100


def test_a_file_that_is_not_what_its_hash_says_is_refused(remote: UPath, cache: Path) -> None:
    remote.write_bytes(b"right")
    digest = hashlib.sha256(b"right").hexdigest()
    assert local_copy(remote, digest).read_bytes() == b"right"
    remote.unlink()
    assert local_copy(remote, digest).read_bytes() == b"right"  # the store is not asked
    remote.write_bytes(b"wrong")
    with pytest.raises(DataError, match="damaged"):
        local_copy(remote, hashlib.sha256(b"other").hexdigest())
    assert len(entries(cache)) == 2  # one copy, one partial that the next attempt removes


def test_equal_files_with_other_names_are_other_copies(remote: UPath, cache: Path) -> None:
    digest = hashlib.sha256(b"same").hexdigest()
    for name in ("one.tar", "two.tar"):
        where = remote.parent / name
        where.write_bytes(b"same")
        assert local_copy(where, digest).read_bytes() == b"same"
        assert local_copy(where, digest).name == name


def test_nothing_there(remote: UPath, cache: Path) -> None:
    with pytest.raises(FileNotFoundError):
        local_copy(remote)


def test_the_oldest_copies_make_room_but_not_those_in_use(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCL_CACHE_BYTES", "2500")
    copies = []
    for number in range(3):
        (remote / f"{number}.tar").write_bytes(bytes(1000))
        copies.append(local_copy(remote / f"{number}.tar"))
    assert all(copy.is_file() for copy in copies)  # all were used a moment ago
    for number, copy in enumerate(copies):
        used = time.time() - KEPT_SECONDS - 10 + number
        os.utime(copy.parent, (used, used))
    (remote / "3.tar").write_bytes(bytes(1000))
    newest = local_copy(remote / "3.tar")
    assert [copy.is_file() for copy in (*copies, newest)] == [False, False, True, True]


def test_no_credentials_in_urls() -> None:
    with pytest.raises(ConfigError, match="without credentials"):
        place("s3://key:secret@bucket/run")
