"""The protocol of the loss family."""

from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """A loss a sample; with uniform class counts it is plain cross-entropy."""

    def loss(self, logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
        """The loss of each sample, for training only (at test time, argmax of plain logits).

        Args:
            logits: (N, num_classes).
            labels: (N,) int64, or soft targets (N, num_classes) whose rows sum to 1 (mixup).
            class_counts: (num_classes,) images a class in the pool the epoch is drawn from: the
                prior the network is trained under, synthetic images included.

        Returns:
            (N,).
        """
