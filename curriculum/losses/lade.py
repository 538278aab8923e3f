"""LADE: label-distribution disentangling (Hong et al. 2021, arXiv:2012.00321, Eq. 9 to 12)."""

import math
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext, prior, soft_targets
from generators.heads import LINEAR, HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Lade:
    """Balanced Softmax, and a bound that makes logits the log-ratio of class to balanced images.

    For each class c, a regularised Donsker-Varadhan bound: mean of z_c over its own images, minus
    b_c, minus strength b_c^2, where b_c is the log of the mean over the batch of exp(z_c) weighted
    to a balanced prior. Classes count by their prior; the bound is one number a batch, the same for
    each of its samples. Weights are by the label of each image, as in the equation; the authors'
    code takes the prior of class c for all of them.

    Attributes:
        alpha: weight of the bound; 0 is Balanced Softmax.
        strength: of its regulariser.
    """

    alpha: Annotated[float, Field(ge=0)] = 0.01
    strength: Annotated[float, Field(ge=0)] = 0.1

    @property
    def head(self) -> HeadSpec:
        """The usual one."""
        return LINEAR

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """Both parts of each sample."""
        shares, classes = prior(context.class_counts, logits), logits.shape[-1]
        loss = functional.cross_entropy(logits + shares.log(), labels, reduction="none")
        if self.alpha == 0:
            return loss
        targets = soft_targets(labels, classes)
        images = targets.sum(0)
        own = (targets * logits).sum(0) / images.clamp_min(1e-8)
        # Of an image of class y, weight (1 / C) / pi_y takes the sample to a balanced prior.
        weights = -(targets @ shares.log()) - math.log(classes)
        balanced = (logits + weights[:, None]).logsumexp(0) - math.log(len(logits))
        bound = own - balanced - self.strength * balanced.square()
        return loss - self.alpha * (shares * bound).sum()


METHOD: Final[type[Loss]] = Lade
