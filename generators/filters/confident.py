"""Confident learning: images that show another class (Northcutt et al. 2021, arXiv:1911.00068)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.filters.base import (
    Bound,
    Judge,
    JudgeContext,
    LoadedJudge,
    chunks,
    first_refusal,
)
from generators.real_classifier import RealClassifier, open_classifier

OTHER = "confident_margin"
LABEL_ISSUE = "label_issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confident:
    """Refuses an image of which the run's own classifier is confident that it is of another class.

    A class j is confident where its probability reaches the mean that real images of class j have
    (the confident joint's threshold); the score is how much more probable the most probable such
    class is than the image's own, -1 where there is none.

    Attributes:
        max_margin: refused above it; 0 is the paper's rule.
    """

    max_margin: Annotated[float, Field(ge=-1, le=1)] = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The margin of the other class."""
        return (OTHER,)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Reads the classifier of the run, and what it makes of real images.

        Raises:
            ConfigError: the run has none, or it was trained on other classes.
            CheckpointError: its file is missing, damaged or without statistics.
        """
        classifier = open_classifier(context, "confident")
        return _Loaded(classifier, classifier.statistics())

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps margins up to the threshold, end included."""
        bound = Bound(column=OTHER, highest=self.max_margin, too_high=LABEL_ISSUE)
        return first_refusal((bound,), scores)


@dataclass(frozen=True, slots=True)
class _Loaded:
    classifier: RealClassifier
    known: Mapping[str, Tensor]

    @torch.inference_mode()
    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Margins."""
        parts = [torch.zeros(0)]
        for images, classes in chunks(pixels, labels):
            _, logits = self.classifier.evaluate(images)
            probabilities = logits.softmax(1)
            own = probabilities.gather(1, classes[:, None])
            others = (probabilities - own).masked_fill(probabilities < self.known["confidence"], -1)
            parts.append(others.scatter(1, classes[:, None], -1.0).max(1).values)
        return {OTHER: torch.cat(parts)}


METHOD: Final[type[Judge]] = Confident
