"""A study as a flow: the grid, its table in all forms, and what is made twice."""

import csv
import io
import json
from pathlib import Path

import pytest

from infra.config.schema import studied
from infra.storage.runs import RunStore
from tests.support.tiny_run import tiny_config

pytestmark = pytest.mark.slow


def test_every_arm_with_every_treatment(prefect_harness: None, tmp_path: Path) -> None:
    from flows.run import run
    from flows.study import study

    changes = (
        "compare={adaptive: {schedule: {name: adaptive, num_held_out: 3}, tail_share: 0.7}}",
        "study={treatments: {bs: {loss: balanced_softmax}, crt: {rebalancer: retrain}}}",
        "data.val_percent=10",
        "data.test_percent=40",
    )
    config, store = tiny_config(*changes), RunStore(tmp_path / "study")
    study(config, str(store.root))
    found = json.loads((store.study / "study.json").read_bytes())
    arms = ("baseline", "curriculum", "adaptive")
    losses = ("cross_entropy", "bs", "crt")
    grid = [(c["schedule"], c["loss"], c["seed"]) for c in found["cells"]]
    assert grid == [(arm, loss, seed) for loss in losses for arm in arms for seed in (0, 1)]
    assert found["baseline"][0] == "baseline"
    for cell in found["cells"]:
        assert 0 <= cell["all"] <= 100
        assert set(cell["val"]) == {"many", "medium", "few", "all"}
        assert (cell["model_evaluations"] == 0) == (cell["schedule"] == "baseline")
        assert cell["generator"] == ("" if cell["schedule"] == "baseline" else "handwriting")
    rows = list(csv.DictReader(io.StringIO((store.study / "table.csv").read_text())))
    mean = sum(c["all"] for c in found["cells"][:2]) / 2
    assert float(rows[0]["all_mean"]) == pytest.approx(mean)
    assert (store.study / "table.md").read_text().count("\n") == 2 + 9
    assert (store.study / "table.tex").read_text().count("\\\\") == 10
    assert b"</svg>" in (store.study / "table.svg").read_bytes()
    # Images of another run cost what they did there.
    other, few = RunStore(tmp_path / "other"), ("study={treatments: {}}", "compare={}")
    study(tiny_config(*changes, *few), str(other.root), reuse=[str(store.root)])
    costs = {cell["schedule"]: cell["model_evaluations"] for cell in found["cells"]}
    for cell in json.loads((other.study / "study.json").read_bytes())["cells"]:
        assert cell["model_evaluations"] == costs[cell["schedule"]]
    # Images and trainings that a plain run shares with it are the same files.
    plain = RunStore(tmp_path / "plain")
    run(tiny_config(*changes, "study=null"), str(plain.root))
    trained = {path.name for path in plain.training.iterdir()}
    assert trained < {path.name for path in store.training.iterdir()}
    history = json.loads(next(plain.training.glob("adaptive-*/result.json")).read_text())["epochs"]
    assert set(history[0]["feedback"]) == {"0", "40", "100"}


def test_without_treatments_the_usual_ones() -> None:
    config = studied(tiny_config())
    assert list(config.treatments()) == ["", "balanced_softmax", "ldam_drw", "logit_adjustment"]
    assert len(config.arms()) == 4 * len(config.plain_arms())
