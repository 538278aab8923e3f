"""LDAM with deferred re-weighting (Cao et al. 2019, arXiv:1906.07413, Eq. 13)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from curriculum.losses.base import Loss, LossContext, soft_targets
from curriculum.losses.class_balanced import effective_weights
from generators.heads import HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Ldam:
    """Cross-entropy of cosine logits whose own class has a margin that grows with its rarity.

    The margin of class c is max_margin (n_min / n_c)^(1/4); logits and margins are scaled alike.
    With equal counts all margins are max_margin; with max_margin 0 it is cross-entropy.

    Attributes:
        max_margin: of the rarest class, in units of the cosine.
        scale: of the cosine.
        beta: of the class weights (`class_balanced`) of the last part of the training.
        deferred_percent: share of the training without weights; 100 leaves them out.
    """

    max_margin: Annotated[float, Field(ge=0)] = 0.5
    scale: Annotated[float, Field(gt=0)] = 30.0
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    deferred_percent: Annotated[int, Field(ge=0, le=100)] = 80

    @property
    def head(self) -> HeadSpec:
        """Cosine."""
        return HeadSpec(kind="cosine", scale=self.scale)

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The loss of each sample; of soft targets, the mean over classes as they say."""
        counts, targets = context.class_counts.to(logits), soft_targets(labels, logits.shape[-1])
        margins = self.scale * ldam_margins(counts, self.max_margin)
        # log-softmax of the logits with class c's own lowered, at c
        lowered = logits - margins
        others = _logsumexp_of_others(logits)
        parts = targets * (torch.logaddexp(lowered, others) - lowered)
        if 100 * context.progress >= self.deferred_percent:
            parts = parts * effective_weights(counts, self.beta, logits)
        return parts.sum(-1)


def ldam_margins(counts: Tensor, max_margin: float) -> Tensor:
    """(num_classes,) margins, the rarest class's `max_margin`."""
    roots = counts.clamp_min(1) ** -0.25
    return max_margin * roots / roots.max()


def _logsumexp_of_others(logits: Tensor) -> Tensor:
    """For each class the log of the sum of exp over all other classes, (N, num_classes)."""
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    return logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(-1)


METHOD: Final[type[Loss]] = Ldam
