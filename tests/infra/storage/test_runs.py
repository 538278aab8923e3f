"""The folder of a run: whose it is, and whether there is room."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from generators.errors import OutputError
from generators.registry import content_hash
from infra.storage.atomic import write_json
from infra.storage.runs import RunStore

IDENTITY = {"name": "a", "data": {"seed": 0, "levels": [0, 50]}, "compare": {}}
OTHER = {"name": "a", "data": {"seed": 1, "levels": [0, 50]}, "compare": {"even": {"x": 1}}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs" / "a")


def test_a_folder_belongs_to_its_first_config(store: RunStore) -> None:
    store.claim(IDENTITY, update=False)
    store.claim(IDENTITY, update=False)
    assert yaml.safe_load(store.config.read_text()) == IDENTITY
    with pytest.raises(OutputError) as caught:
        store.claim(OTHER, update=False)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("belongs to another config; it differs in")
    assert lines[1:3] == ["  data.seed: 0 there, 1 now", "  compare.even: None there, {'x': 1} now"]
    assert yaml.safe_load(store.config.read_text()) == IDENTITY


def test_an_update_takes_a_folder_over_and_keeps_its_files(store: RunStore) -> None:
    store.claim(IDENTITY, update=False)
    (store.root / "kept").write_text("x")
    store.claim(OTHER, update=True)
    assert yaml.safe_load(store.config.read_text()) == OTHER
    assert (store.root / "kept").read_text() == "x"


@pytest.mark.parametrize("update", [True, False])
def test_a_folder_of_somebody_else_is_left_alone(store: RunStore, update: bool) -> None:
    store.root.mkdir(parents=True)
    (store.root / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="is not empty and not a run"):
        store.claim(IDENTITY, update=update)
    assert os.listdir(store.root) == ["thesis.tex"]


def test_an_empty_folder_can_be_used(store: RunStore) -> None:
    store.root.mkdir(parents=True)
    store.claim(IDENTITY, update=False)
    assert store.config.is_file()


def test_a_run_is_finished_for_the_config_it_was_finished_with(store: RunStore) -> None:
    assert store.finished(IDENTITY) is None
    store.claim(IDENTITY, update=False)
    write_json(store.result, {"config_hash": content_hash(IDENTITY), "seeds": 3})
    assert store.finished(IDENTITY) == {"config_hash": content_hash(IDENTITY), "seeds": 3}
    assert store.finished(dict(reversed(IDENTITY.items()))) is not None
    assert store.finished(OTHER) is None


def test_room_is_asked_for_where_the_folder_will_be(store: RunStore) -> None:
    store.require_space(1)
    with pytest.raises(OutputError, match=r"about 1,000,000\.00 GB will be written"):
        store.require_space(10**15)
    assert not store.root.exists()


def test_shards_that_are_there_need_no_room(store: RunStore) -> None:
    store.real.mkdir(parents=True)
    with (store.real / "train-1.tar").open("wb") as stream:
        stream.truncate(4 * 10**9)  # sparse
    free = shutil.disk_usage(store.root).free
    store.require_space(free + 2 * 10**9)
    with pytest.raises(OutputError):
        store.require_space(free + 8 * 10**9)
