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
    (the confident joint's threshold); the score is how much more probable the most probable other
    such class is than the image's own, which counts as 0 where it is not confident; -1 where no
    other is.

    Attributes:
        max_margin: refused above it; 0 is the paper's rule, and that of its library, cleanlab.
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
            parts.append(margins(logits.softmax(1), classes, self.known["confidence"]))
        return {OTHER: torch.cat(parts)}


def margins(probabilities: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """How much more probable another class is that is confident.

    Args:
        probabilities: (N, num_classes).
        labels: (N,) own classes.
        thresholds: (num_classes,) from which on a class is confident.

    Returns:
        (N,) in [-1, 1]; above 0 where the image counts off the diagonal of the confident joint
        (Northcutt et al. 2021, Eq. 1).
    """
    confident = probabilities.masked_fill(probabilities < thresholds, -1.0)
    own = confident.gather(1, labels[:, None])[:, 0].clamp_min(0.0)
    other = confident.scatter(1, labels[:, None], -1.0).max(1).values
    return torch.where(other < 0, -1.0, other - own)


METHOD: Final[type[Judge]] = Confident
