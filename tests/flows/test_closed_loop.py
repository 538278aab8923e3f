"""Generation and training in a closed loop over flow runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from generators.places import Place
from infra.jobs.closed_loop import gains_path
from infra.jobs.verify import verify
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from tests.infra.jobs.world import config_for, write_images

CHANGES = (
    "workers.kind=local",
    "generation.levels=[0, 50]",
    "generation.target={per_class: 30}",
    "training.seeds=1",
    "curriculum.schedule={name: budgeted_adaptive, levels: [0, 50], num_held_out: 4, "
    "explore_percent: 0}",
)


def top_up(folder: Path, output: Place, budget: int, *changes: str) -> Any:
    from flows.top_up import top_up

    config = config_for(folder, *CHANGES, *changes)
    state: Any = top_up(config, str(output), budget_evaluations=budget, return_state=True)
    return state.result()


def cells(store: RunStore) -> Counter[tuple[str, int]]:
    rows = read_manifest(store.manifest)
    return Counter(
        zip(rows["class_name"].to_pylist(), rows["image_guidance"].to_pylist(), strict=True)
    )


def spent(store: RunStore) -> int:
    return sum(read_manifest(store.manifest)["num_model_calls"].to_pylist())


@pytest.mark.slow
def test_what_is_generated_next_follows_what_was_measured(
    prefect_harness: None, tmp_path: Path
) -> None:
    data, store = tmp_path / "data", RunStore(tmp_path / "out")
    write_images(data, {"across": 16, "rare": 5, "upright": 5})

    # Nothing is known: every cell gets the same evaluations; level 0 costs 8, level 50 costs 4.
    assert top_up(data, store.root, 96)["version"] == 1
    assert cells(store) == {
        ("rare", 0): 3,
        ("rare", 50): 6,
        ("upright", 0): 3,
        ("upright", 50): 6,
    }
    path = gains_path(store, 1)
    measured = json.loads(path.read_text())
    assert measured["model_evaluations"] == spent(store) <= 96
    found = {(cell["class"], cell["image_guidance"]): cell for cell in measured["cells"]}
    assert {cell: one["images"] for cell, one in found.items()} == cells(store)
    assert any(cell["gain"] for cell in measured["cells"])
    assert measured["metrics"][0]["top1"] > 0

    # Killed before it had measured: it does so first, and finds the same.
    path.unlink()
    before = cells(store)
    assert top_up(data, store.root, 3) == {"images": 0, "missing": 102, "version": 1}
    assert json.loads(path.read_text()) == measured

    # The next budget goes where the gain is.
    for cell in measured["cells"]:
        is_it = (cell["class"], cell["image_guidance"]) == ("upright", 50)
        cell["gain"] = 0.5 if is_it else -0.1
    path.write_text(json.dumps(measured))
    assert top_up(data, store.root, 50)["version"] == 2
    assert cells(store) - before == {("upright", 50): 12}
    assert gains_path(store, 2).is_file()

    # Everything is there at last, and nothing is left to do.
    assert top_up(data, store.root, 10_000) == {"images": 90, "missing": 0, "version": 3}
    assert set(cells(store).values()) == {30}
    assert top_up(data, store.root, 10_000) == {"images": 0, "missing": 0, "version": 3}
    assert verify(store).problems == []
