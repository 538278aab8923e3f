"""The run's own classifier, trained on real images only, as judge of synthetic ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field

from generators.filters.base import (
    LOW_CLASS_PROBABILITY,
    Bound,
    ClassifierScorer,
    Judge,
    JudgeContext,
    LoadedJudge,
    first_refusal,
    source_bound,
)
from generators.real_classifier import open_classifier

PROBABILITY, SIMILARITY = "classifier_probability", "classifier_similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDataClassifier:
    """The run's own real-data classifier: probability of the class, likeness to the source.

    It has seen few images of the rare classes, so its probability is a weak witness exactly there;
    look at the acceptance by class before raising a threshold. The defaults refuse nothing.

    Attributes:
        min_probability: least probability of the image's class, 0..1.
        min_similarity: least cosine of the features before the head with the source's, -1..1.
        max_similarity: most of the same; below 1 it refuses near-copies of the source.
    """

    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    max_similarity: Annotated[float, Field(ge=-1, le=1)] = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Probability of its class; cosine with the source."""
        return (PROBABILITY, SIMILARITY)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Reads the classifier of the run.

        Raises:
            ConfigError: the run has none, or it was trained on other classes.
            CheckpointError: its file is missing or damaged.
        """
        found = open_classifier(context, "classifier")
        return ClassifierScorer(
            network=found.network,
            prepare=found.prepare,
            columns=(PROBABILITY, SIMILARITY),
            class_of_output=torch.eye(len(found.info.class_names)),
            device=context.device,
        )

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps scores within the thresholds, ends included."""
        bounds = (
            Bound(column=PROBABILITY, lowest=self.min_probability, too_low=LOW_CLASS_PROBABILITY),
            source_bound(SIMILARITY, self.min_similarity, self.max_similarity),
        )
        return first_refusal(bounds, scores)


METHOD: Final[type[Judge]] = RealDataClassifier
