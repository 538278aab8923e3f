from collections.abc import Sequence

import pytest

from infra.report.verdict import Headline, headline
from tests.infra.report import example_run


def verdict(**few: Sequence[float]) -> Headline:
    compare = {
        name: {"schedule": "mixed"} for name in few if name not in ("baseline", "curriculum")
    }
    found = headline(example_run.facts(example_run.Example(compare=compare), few))
    sentence = found.sentence.replace("\u00a0", " ")
    rivals = tuple(text.replace("\u00a0", " ") for text in found.rivals)
    return Headline(label=found.label, tone=found.tone, sentence=sentence, rivals=rivals)


def test_gain_is_named_with_its_interval() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(90, 94, 95))
    assert found.sentence.startswith(
        "The curriculum raises accuracy on few-shot classes by 11.0 points "
        "(95 % interval 8.5 to 13.5), from 82.0 to 93.0 %, and overall accuracy by "
    )
    assert found.sentence.count("95 % interval") == 2
    assert found.sentence.count(". ") == 0  # one sentence
    assert (found.tone, found.label) == ("good", "Gain shown")


def test_no_gain_is_said_plainly() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(82, 80, 84.5))
    assert found.sentence.startswith(
        "No gain is shown: the curriculum changes accuracy on few-shot classes by +0.2 points "
        "(95 % interval −4.9 to 5.2), from 82.0 to 82.2 %, and the interval includes zero"
    )
    assert "for overall accuracy no difference is shown" in found.sentence
    assert (found.tone, found.label) == ("neutral", "No gain shown")


def test_loss_is_said_plainly() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(70, 73, 74))
    assert found.sentence.startswith(
        "The curriculum lowers accuracy on few-shot classes by 9.7 points (95 % interval 8.2 to "
    )
    assert (found.tone, found.label) == ("bad", "Loss shown")


def test_one_seed_claims_nothing() -> None:
    found = verdict(baseline=(80,), curriculum=(95,), mixed=(96,))
    assert found.sentence.startswith("One seed shows neither gain nor loss")
    assert "at least two seeds" in found.sentence
    assert found.tone == "neutral"
    assert "one seed cannot tell them apart" in found.rivals[0]


def test_another_arm_that_is_better_is_named() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(90, 92, 94), mixed=(93, 95, 97.5))
    assert found.rivals == (
        "Another arm is better: mixed reaches 95.2 % on few-shot classes against the curriculum's "
        "92.0 %, 3.2 points (95 % interval 2.4 to 3.9) more.",
    )
    assert found.label == "Gain shown, another arm is better"
    assert found.tone == "neutral"  # a gain that something plainer beats is no success


def test_another_arm_that_is_ahead_within_the_noise_is_named_as_such() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(90, 94, 95), mixed=(94, 92, 96))
    assert found.rivals[0].startswith("Another arm scores higher, though not clearly: mixed")
    assert found.tone == "good"


def test_not_shown_to_be_better_than_another_arm() -> None:
    found = verdict(baseline=(80, 82, 84), curriculum=(90, 94, 95), mixed=(92, 91, 94))
    assert found.rivals == (
        "The curriculum is not shown to be better than mixed, which reaches 92.3 % on few-shot "
        "classes against the curriculum's 93.0 %.",
    )


def test_beaten_arms_are_listed() -> None:
    found = verdict(
        baseline=(80, 82, 84), curriculum=(90, 94, 95), mixed=(81, 84, 86), other=(80, 85, 85.5)
    )
    assert found.rivals == (
        "On few-shot classes the curriculum is clearly better than mixed and other.",
    )


@pytest.mark.parametrize("size", [10, 30])
def test_without_few_shot_classes_overall_accuracy_decides(size: int) -> None:
    example = example_run.Example(counts=(size,) * 10, compare={})
    facts = example_run.facts(example, {"baseline": (80, 81, 82), "curriculum": (90, 91, 92.5)})
    sentence = headline(facts).sentence
    assert "few-shot" not in sentence
    assert "overall accuracy" in sentence
