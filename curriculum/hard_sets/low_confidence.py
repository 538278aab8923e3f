"""Images a classifier is unsure of: DisCL's hard set for low-quality data (arXiv:2410.13674)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor

from curriculum.hard_sets.base import HardSet
from generators.errors import ConfigError

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LowConfidence:
    """Images whose true class gets a low probability from the real-data classifier.

    Give one of the two; with neither, the threshold is 0.5.

    Attributes:
        threshold: probability in 0..1; an image below it is hard.
        fraction: share of all images in (0, 1], the least confident; images as unsure as the last
            one are hard, too.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.fraction is not None:
            raise ConfigError("low_confidence.fraction", self.fraction, "null beside a threshold")

    @property
    def needs_logits(self) -> bool:
        """The classifier's opinion is what counts."""
        return True

    def select(self, logits: Tensor | None, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Marks images by the softmax probability of their own label."""
        if logits is None:
            raise ConfigError("hard_set", "low_confidence", "logits of a trained classifier")
        labels = labels.to(logits.device)
        confidence = logits.double().softmax(1).gather(1, labels[:, None])[:, 0]
        if self.fraction is None:
            threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
            return confidence < threshold
        if len(confidence) == 0:
            return confidence < 0
        count = max(1, round(self.fraction * len(confidence)))
        # A cut by value, not by rank: ties must not depend on the order of the images.
        return confidence <= confidence.kthvalue(count).values


METHOD: Final[type[HardSet]] = LowConfidence
