"""In, near or out of the distribution of real images, by features (DiffuLT's filter).

Shao et al. 2024, arXiv:2403.05170, section 3.3, which gives no formula: the distance is ours,
Mahalanobis with the covariance within classes pooled (Lee et al. 2018, arXiv:1807.03888, Eq. 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.class_statistics import mahalanobis
from generators.filters.base import (
    Bound,
    Judge,
    JudgeContext,
    LoadedJudge,
    chunks,
    first_refusal,
)
from generators.real_classifier import RealClassifier, open_classifier

DISTANCE = "distribution_distance"
OUT_OF_DISTRIBUTION, TOO_USUAL = "out_of_distribution", "too_usual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Distance to the mean real image of the class, under the run's own real-data classifier.

    In units of the distance that 99 % of the real training images stay within: below 1 is in the
    distribution, somewhat above it near, where images teach most, and far above it out.

    Attributes:
        max_distance: beyond it an image is refused.
        min_distance: below it likewise; 0 keeps what is in the distribution.
    """

    max_distance: Annotated[float, Field(ge=0)] = 1.5
    min_distance: Annotated[float, Field(ge=0)] = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The distance."""
        return (DISTANCE,)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Reads the classifier of the run, and what it makes of real images.

        Raises:
            ConfigError: the run has none, or it was trained on other classes.
            CheckpointError: its file is missing, damaged or without statistics.
        """
        classifier = open_classifier(context, "distribution")
        return _Loaded(classifier, classifier.statistics())

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps distances within the bounds, ends included."""
        bound = Bound(
            column=DISTANCE,
            lowest=self.min_distance,
            highest=self.max_distance,
            too_low=TOO_USUAL,
            too_high=OUT_OF_DISTRIBUTION,
        )
        return first_refusal((bound,), scores)


@dataclass(frozen=True, slots=True)
class _Loaded:
    classifier: RealClassifier
    known: Mapping[str, Tensor]

    @torch.inference_mode()
    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Distances, 1 where 99 % of real images end."""
        parts = [torch.zeros(0)]
        for images, classes in chunks(pixels, labels):
            embeddings, _ = self.classifier.evaluate(images)
            parts.append(
                mahalanobis(embeddings, self.known["means"][classes], self.known["precision"])
            )
        return {DISTANCE: torch.cat(parts) / self.known["distance"].clamp_min(1e-12)}


METHOD: Final[type[Judge]] = Distribution
