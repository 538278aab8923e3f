"""The verdict of a run in plain sentences. A gain that is not there is said not to be there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from curriculum.compare import Comparison
from infra.config.schema import BASELINE, CURRICULUM
from infra.report.facts import RunFacts
from infra.report.wording import ACCURACY_OF, PERCENT, WHERE, from_to, number, points

Tone = Literal["good", "neutral", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What a reader takes home.

    Attributes:
        label: the verdict in a few words.
        tone: `good` only where a gain is shown, costs nothing elsewhere and no other arm does
            clearly better; `bad` where a loss is shown.
        sentence: the curriculum against the baseline, one sentence.
        rivals: how it stands against each of the other arms, the ones that do better first.
    """

    label: str
    tone: Tone
    sentence: str
    rivals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another arm beside the curriculum: the difference is the arm minus the curriculum."""

    name: str
    against: Comparison

    @property
    def is_ahead(self) -> bool:
        """Whether its mean is higher."""
        return self.against.difference.mean > 0


def headline(facts: RunFacts) -> Headline:
    """The verdict of a run."""
    metric = facts.main_metric
    gains = facts.versus(CURRICULUM)
    rivals = find_rivals(facts, metric)
    beaten = any(rival.against.verdict == "better" for rival in rivals)
    return Headline(
        label=_label(gains, metric, beaten, facts.num_seeds),
        tone=_tone(gains, metric, beaten),
        sentence=_sentence(gains, metric, facts.num_seeds),
        rivals=_rival_sentences(rivals, metric, facts.num_seeds),
    )


def find_rivals(facts: RunFacts, metric: str) -> list[Rival]:
    """All arms but baseline and curriculum against the curriculum, the best first."""
    names = [name for name in facts.arms if name not in (BASELINE, CURRICULUM)]
    found = [Rival(name=name, against=facts.versus(name, CURRICULUM)[metric]) for name in names]
    return sorted(found, key=lambda rival: -rival.against.difference.mean)


def _tone(gains: Mapping[str, Comparison], metric: str, beaten: bool) -> Tone:
    verdicts = {gains[name].verdict for name in (metric, "all")}
    if gains[metric].verdict == "worse":
        return "bad"
    if gains[metric].verdict == "better" and "worse" not in verdicts and not beaten:
        return "good"
    return "neutral"


def _label(gains: Mapping[str, Comparison], metric: str, beaten: bool, num_seeds: int) -> str:
    if num_seeds == 1:
        return "One seed, no verdict"
    main, overall = gains[metric].verdict, gains["all"].verdict
    text = {"better": "Gain shown", "worse": "Loss shown"}.get(main, "No gain shown")
    if main == "better" and overall == "worse":
        text = f"Gain on {WHERE[metric]}, loss overall"
    return f"{text}, another arm is better" if beaten else text


def _sentence(gains: Mapping[str, Comparison], metric: str, num_seeds: int) -> str:
    main, what = gains[metric], ACCURACY_OF[metric]
    if num_seeds == 1:
        text = f"One seed shows neither gain nor loss: {what} went {from_to(main)}"
        if metric != "all":
            text += f" and {ACCURACY_OF['all']} {from_to(gains['all'])}"
        return f"{text}; train at least two seeds for an interval."
    if main.verdict == "no difference shown":
        text = f"No gain is shown: the curriculum changes {what} by {points(main)}, "
        text += f"{from_to(main)}, and the interval includes zero"
    else:
        verb = "raises" if main.verdict == "better" else "lowers"
        text = f"The curriculum {verb} {what} by {_size(main)}, {from_to(main)}"
    if metric == "all":
        return f"{text}."
    return f"{text}{_overall(gains['all'], main)}."


def _overall(overall: Comparison, main: Comparison) -> str:
    """The second half of the sentence."""
    what = ACCURACY_OF["all"]
    if overall.verdict == "no difference shown":
        return f"; for {what} no difference is shown, {points(overall)}"
    verb = "raises" if overall.verdict == "better" else "lowers"
    size = f"{what} by {_size(overall)}, {from_to(overall)}"
    if main.verdict == overall.verdict:
        return f", and {size}"
    return f", but it {verb} {size}"


def _size(comparison: Comparison) -> str:
    """How far two arms are apart, without a sign."""
    low, high = sorted(abs(end) for end in comparison.difference.ci95 or (0.0, 0.0))
    size = abs(comparison.difference.mean)
    return f"{number(size)} points (95{PERCENT} interval {number(low)} to {number(high)})"


def _rival_sentences(rivals: list[Rival], metric: str, num_seeds: int) -> tuple[str, ...]:
    where = WHERE[metric]
    found = []
    for rival in rivals:
        mean, own = rival.against.arm.mean, rival.against.baseline.mean
        both = f"{number(mean)}{PERCENT} on {where} against the curriculum's {number(own)}{PERCENT}"
        if rival.against.verdict == "better":
            found.append(
                f"Another arm is better: {rival.name} reaches {both}, {_size(rival.against)} more."
            )
        elif rival.is_ahead:
            why = "one seed cannot tell them apart" if num_seeds == 1 else "the interval has zero"
            found.append(
                f"Another arm scores higher, though not clearly: {rival.name} reaches {both}, "
                f"{points(rival.against)}; {why}."
            )
        elif rival.against.verdict == "no difference shown":
            found.append(
                f"The curriculum is not shown to be better than {rival.name}, which reaches {both}."
            )
    beaten = [rival.name for rival in rivals if rival.against.verdict == "worse"]
    if beaten:
        found.append(f"On {where} the curriculum is clearly better than {_listed(beaten)}.")
    return tuple(found)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
