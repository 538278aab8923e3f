import pytest

from curriculum.compare import Estimate
from generators.registry import MethodSpec
from infra.config.training import ArmConfig
from infra.report import wording


@pytest.mark.parametrize(
    ("value", "text", "with_sign"),
    [
        (1.25, "1.2", "+1.2"),
        (-0.04, "0.0", "0.0"),
        (0.0, "0.0", "0.0"),
        (-3.25, "−3.2", "−3.2"),
        (None, "–", "–"),
    ],
)
def test_numbers(value: float | None, text: str, with_sign: str) -> None:
    assert wording.number(value) == text
    assert wording.signed(value) == with_sign


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (99.9, "99.9 s"),
        (99.96, "1 min 40 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (14820, "4 h 07 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds).replace("\u00a0", " ") == text


def test_counts_rates_and_intervals() -> None:
    assert wording.count(1234567) == "1\u202f234\u202f567"
    assert (wording.rate(12.345), wording.rate(0.1234)) == ("12.3", "0.12")
    estimate = Estimate(mean=0.0, std=1.0, ci95=(-1.24, 2.0), num_seeds=2)
    assert wording.interval(estimate) == "−1.2 to 2.0"


def test_methods_leave_out_defaults_only_when_told_the_family() -> None:
    spec = MethodSpec(name="classifier", params={"min_probability": 0.5, "min_similarity": -1.0})
    assert wording.method(spec) == "classifier (min_probability 0.5, min_similarity −1)"
    assert wording.method(spec, "filter") == "classifier (min_probability 0.5)"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"schedule": "none"}, "real images only"),
        (
            {"schedule": "none", "tail_share": 0.5},
            "real images only; hard classes (repeated) 50 % of an epoch",
        ),
        (
            {"schedule": {"name": "mixed", "levels": [0, 50]}, "head_keep": 0.3},
            "levels 0, 50 mixed in every epoch; 30 % of the other images kept",
        ),
        (
            {"schedule": {"name": "fixed_stages", "levels": [0, 50], "order": "descending"}},
            "levels 0, 50 one after the other, descending; the last 10 % real images only",
        ),
        (
            {"schedule": {"name": "single", "level": 40}, "loss": "balanced_softmax"},
            "level 40 in every epoch; loss balanced_softmax",
        ),
    ],
)
def test_arms(config: dict[str, object], text: str) -> None:
    assert wording.arm(ArmConfig.model_validate(config)) == text
