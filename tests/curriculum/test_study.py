"""Statistics of a study on hand-made cells."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from curriculum.study import Cell, best_baseline, holm, summarise
from generators.errors import DataError


def cell(data: str, seed: int, few: float, **changes: object) -> Cell:
    metrics = {"many": None, "medium": 70.0 + seed, "few": few, "all": few / 2 + 40}
    values: dict[str, object] = {
        "data": data,
        "treatment": "ce",
        "is_real": data.startswith("real"),
        "seed": seed,
        "test": metrics,
        "val": {},
        "model_evaluations": 0 if data.startswith("real") else 100,
        "seconds": 2.0 + seed,
    }
    return Cell(**{**values, **changes})  # type: ignore[arg-type]


REAL, OURS = [50.0, 54.0, 51.0, 53.0], [61.0, 63.0, 60.0, 66.0]
OTHER = [49.0, 57.0, 52.0, 52.0]
CELLS = [
    cell(name, seed, value)
    for name, values in (("real", REAL), ("ours", OURS), ("real_other", OTHER))
    for seed, value in enumerate(values)
]


def test_the_baseline_is_the_best_on_real_images_by_validation() -> None:
    assert best_baseline(CELLS) == ("real_other", "ce")
    seen = [
        cell(c.data, c.seed, c.test["few"] or 0, val={"all": 9.0 if c.data == "real" else 1.0})
        for c in CELLS
    ]
    assert best_baseline(seen) == ("real", "ce")
    with pytest.raises(DataError, match="real images"):
        best_baseline([c for c in CELLS if not c.is_real])


def test_differences_are_paired_and_p_values_corrected() -> None:
    rows = {row.data: row for row in summarise(CELLS, ("real", "ce"))}
    assert list(rows) == ["real", "ours", "real_other"]
    assert rows["real"].differences == {}
    ours = rows["ours"]
    assert ours.estimates["few"].mean == pytest.approx(np.mean(OURS))
    assert "many" not in ours.estimates
    differences = np.array(OURS) - np.array(REAL)
    assert ours.differences["few"].mean == pytest.approx(differences.mean())
    half = 3.182446 * differences.std(ddof=1) / 2  # t of 3 degrees of freedom
    low, high = ours.differences["few"].ci95 or (0, 0)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    raw = {
        name: float(ttest_rel(values, REAL).pvalue) for name, values in (("o", OURS), ("r", OTHER))
    }
    assert ours.p_values["few"] == pytest.approx(min(1, 2 * raw["o"]))
    assert rows["real_other"].p_values["few"] == pytest.approx(max(2 * raw["o"], raw["r"]))
    assert ours.p_values["medium"] is None  # no difference varies
    assert ours.seconds == 3.5
    assert ours.model_evaluations == 100


def test_holm_steps_down_and_never_up() -> None:
    found = holm({("a", ""): 0.01, ("b", ""): 0.04, ("c", ""): 0.03, ("d", ""): None})
    assert found == {
        ("a", ""): pytest.approx(0.03),
        ("c", ""): pytest.approx(0.06),
        ("b", ""): pytest.approx(0.06),
        ("d", ""): None,
    }


def test_arms_of_other_seeds_are_refused() -> None:
    with pytest.raises(DataError, match="same seeds"):
        summarise(CELLS[:-1], ("real", "ce"))
