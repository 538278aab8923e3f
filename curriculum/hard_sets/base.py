"""The protocol of the hard_set family."""

from typing import Protocol

from torch import Tensor


class HardSet(Protocol):
    """Chooses the training images that synthetic ones are made from. Knows no images."""

    @property
    def needs_logits(self) -> bool:
        """Whether a classifier must be trained on the real data first."""

    def select(self, logits: Tensor | None, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Marks the hard images; permuting the images permutes the marks.

        Args:
            logits: (N, num_classes) of the real-data classifier, None where not needed.
            labels: (N,) int64.
            class_counts: (num_classes,) training images a class.

        Returns:
            (N,) bool.
        """
