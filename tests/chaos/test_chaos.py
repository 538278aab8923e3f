"""The short form of `benchmarks.chaos`: most kinds of strikes once, several to a run.

What is checked after each stands in `benchmarks/chaos_parts/checks.py`: the bytes are those of an
undisturbed run, no request is missing or twice in the manifest, `discl verify` finds nothing.
"""

from collections.abc import Iterator

import pytest

from benchmarks.chaos_parts.ground import open_ground
from benchmarks.chaos_parts.kinds import KINDS
from benchmarks.chaos_parts.moments import Moment
from benchmarks.chaos_parts.rounds import Stage, prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    patch = pytest.MonkeyPatch()  # the ground's object store stands in the environment
    with patch.context(), open_ground(tmp_path_factory.mktemp("chaos")) as ground:
        yield prepare(ground)


def strike(stage: Stage, *strikes: tuple[str, int]) -> None:
    """Plays a run with strikes when so many more shards are complete than at the one before."""
    total, moments, shards = stage.undisturbed.shards(), [], 0
    for kind, more in strikes:
        shards += more
        assert shards < total
        moments.append((kind, Moment(shards=shards)))
    rounds = stage.disturb("-".join(kind for kind, _ in strikes), moments, seed=1)
    assert [problem for played in rounds for problem in played.problems] == []
    assert all(played.hit for played in rounds), rounds
    again = sum(KINDS[kind].codes == {0, -9} for kind, _ in strikes)
    assert sum(len(played.codes) for played in rounds) > again


def test_workers_machines_and_servers_die(stage: Stage) -> None:
    strike(stage, ("actor", 4), ("prefect", 6), ("node_actors", 8), ("raylet", 8))
    stage.ground.repair()


def test_a_second_driver_is_refused(stage: Stage) -> None:
    (played,) = stage.disturb("two_drivers", [("two_drivers", Moment(seconds=3))], seed=1)
    assert played.problems == []
    assert played.hit == "the second was refused"


def test_the_run_itself_dies_again_and_again(stage: Stage) -> None:
    strike(stage, ("driver", 4), ("temporary", 8), ("interrupt", 8), ("terminate", 8))


def test_the_disk_is_full(stage: Stage) -> None:
    if stage.ground.disk is None:
        pytest.skip("no small file system can be mounted here")
    strike(stage, ("disk", 10))


def test_the_object_store_is_cut_off(stage: Stage) -> None:
    (played,) = stage.disturb("store", [("store", Moment(seconds=stage.seconds / 2))], seed=1)
    assert played.problems == []
    assert played.hit
    assert sum(stage.ground.store.faults.done.values()) > 0


@pytest.mark.parametrize("kind", ["remove", "truncate"])
def test_damaged_files_are_found_and_mended(stage: Stage, kind: str) -> None:
    played = stage.damage(kind, kind, seed=1)
    assert (played.problems, played.codes) == ([], [0])
