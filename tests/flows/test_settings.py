"""How flows end."""

from pathlib import Path

from flows.settings import completed
from infra.jobs.quarantine import give_up
from tests.infra.jobs.world import generate, prepare, write_images


def test_a_flow_says_whether_shards_were_given_up(tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    world = prepare(tmp_path / "data", tmp_path / "run")
    whole = completed(world.store, {"images": 36}, "36 new images")
    assert (whole.name, whole.message, whole.data) == ("Completed", "36 new images", {"images": 36})

    give_up(world.shards[0], world.store, "out of memory")
    generate(world)
    lacking = completed(world.store, {"images": 36}, "36 new images")
    said = "1 shards were given up (4 images), the last with: out of memory"
    assert lacking.is_completed()
    assert lacking.name == "CompletedWithFailures"
    assert lacking.message == f"36 new images; {said}"
    assert completed(world.store, None).message == said
