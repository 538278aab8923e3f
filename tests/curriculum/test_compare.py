import json

import pytest
from scipy import stats

from curriculum.compare import compare, compare_classes, estimate
from curriculum.evaluate import Metrics
from generators.errors import DataError


def metrics(few: float | None, ece: float = 0.1, top1: float = 90.0) -> Metrics:
    return Metrics(
        top1=top1,
        balanced_accuracy=80.0,
        many=95.0,
        medium=None,
        few=few,
        macro_f1=80.0,
        ece=ece,
        per_class=(95.0, few, None),
        num_images=100,
    )


def test_estimate_equals_scipy() -> None:
    values = [79.2, 81.0, 77.5, 80.1]
    found = estimate(values)
    wanted = stats.t.interval(0.95, 3, loc=found.mean, scale=stats.sem(values))
    assert found.ci95 == pytest.approx(wanted)
    assert found.mean == pytest.approx(79.45)
    assert found.std == pytest.approx(stats.tstd(values))
    assert found.num_seeds == 4


def test_differences_are_paired_by_seed() -> None:
    # Seeds differ by ten points, arms by one: only the paired difference shows it.
    baseline = {0: metrics(70.0), 1: metrics(80.0), 2: metrics(90.0)}
    arm = {2: metrics(91.2), 0: metrics(71.0), 1: metrics(80.8)}
    found = compare(baseline, arm)["few"]
    assert found.difference.mean == pytest.approx(1.0)
    assert found.difference.std == pytest.approx(0.2)
    assert found.difference.ci95 == pytest.approx((0.5032, 1.4968), abs=1e-4)
    assert found.baseline.ci95[0] < found.arm.mean < found.baseline.ci95[1]
    assert (found.verdict, found.note) == ("better", "")
    assert compare(arm, baseline)["few"].verdict == "worse"


def test_no_difference_shown_when_the_interval_holds_zero() -> None:
    baseline = {0: metrics(70.0), 1: metrics(80.0)}
    found = compare(baseline, {0: metrics(75.0), 1: metrics(81.0)})["few"]
    assert found.difference.mean == 3.0
    assert found.verdict == "no difference shown"
    assert "zero" in found.note
    same = compare(baseline, baseline)["few"]
    assert same.difference.ci95 == (0, 0)
    assert same.verdict == "no difference shown"


def test_a_smaller_calibration_error_is_better() -> None:
    baseline = {seed: metrics(70.0, ece=0.10 + seed / 1000) for seed in range(3)}
    arm = {seed: metrics(70.0, ece=0.05 + seed / 900) for seed in range(3)}
    assert compare(baseline, arm)["ece"].verdict == "better"
    assert compare(arm, baseline)["ece"].verdict == "worse"


def test_one_seed_has_no_interval_and_says_so() -> None:
    found = compare({4: metrics(70.0)}, {4: metrics(90.0)})["few"]
    assert found.difference.mean == 20.0
    assert found.difference.ci95 is None
    assert found.difference.std is None
    assert found.verdict == "no difference shown"
    assert "one seed" in found.note
    assert json.loads(json.dumps(found.as_json()))["difference"] == {
        "mean": 20.0,
        "std": None,
        "ci95": None,
        "num_seeds": 1,
    }


def test_metrics_that_do_not_exist_are_left_out() -> None:
    found = compare({0: metrics(None)}, {0: metrics(None)})
    assert "few" not in found
    assert "medium" not in found
    assert {"top1", "many", "macro_f1", "ece"} <= set(found)
    classes = compare_classes({0: metrics(70.0)}, {0: metrics(75.0)})
    assert [c if c is None else c.difference.mean for c in classes] == [0.0, 5.0, None]


def test_seeds_must_match() -> None:
    with pytest.raises(DataError, match=r"\[0\] and \[1\]"):
        compare({0: metrics(1.0)}, {1: metrics(1.0)})
    with pytest.raises(DataError, match="same seeds"):
        compare({}, {})
