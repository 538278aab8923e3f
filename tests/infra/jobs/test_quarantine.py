"""Shards that were given up: what is said of them, and for how long."""

import pyarrow.compute as pc
import pytest
import typer
from rich.console import Console

from infra.cli.execute import end
from infra.jobs.quarantine import give_up, given_up, quarantined
from infra.storage.manifest import commit_manifest, read_manifest
from tests.infra.jobs.world import World, generate

SAID = "1 shards were given up (4 images), the last with: out of memory"


@pytest.fixture
def lacking(world: World) -> World:
    """Generated but for the first shard, which was given up."""
    give_up(world.shards[0], world.store, "out of memory")
    generate(world)
    return world


def test_what_the_manifest_lacks_is_said(lacking: World) -> None:
    assert given_up(lacking.store) == SAID
    rows = read_manifest(lacking.store.manifest)
    died = rows.filter(pc.equal(rows["reason"], "worker_died"))
    assert set(died["shard"].to_pylist()) == {lacking.shards[0].name}


def test_a_shard_that_is_not_wanted_any_more_is_not_lacking(lacking: World) -> None:
    store = lacking.store
    rows = read_manifest(store.manifest)
    commit_manifest(store.manifest, [rows.filter(pc.not_equal(rows["reason"], "worker_died"))])
    assert given_up(store) == ""
    assert len(quarantined(store)) == 1
    end(Console(), store)


def test_a_command_says_so_and_ends_with_code_3(
    lacking: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        end(Console(), lacking.store)
    assert ended.value.exit_code == 3
    assert capsys.readouterr().out == f"completed with failures: {SAID}\n"
