"""cRT: the classifier trained again on balanced classes (Kang et al. 2020, arXiv:1910.09217)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import nn

from curriculum.fit_logits import fit_logits
from curriculum.rebalancers.base import FeatureSet, Rebalancer, linear_of, put_linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """A new last layer, trained by class-balanced sampling on frozen embeddings.

    Attributes:
        num_passes: augmented looks at each training image, from which samples are drawn.
        steps: of SGD with momentum 0.9 and a cosine to 0.
        batch_size: images a step.
        learning_rate: at the start.
    """

    num_passes: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=1)] = 1000
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 0.1

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """From zero weights: the loss is convex, and its start does not matter."""
        layer = linear_of(network, "retrain")
        weight = torch.zeros_like(layer.weight).requires_grad_()
        bias = torch.zeros(len(weight), device=weight.device).requires_grad_()
        fit_logits(
            lambda embeddings: nn.functional.linear(embeddings, weight, bias),
            [weight, bias],
            features,
            (self.steps, self.batch_size),
            self.learning_rate,
        )
        return put_linear(network, weight.detach(), bias.detach())


METHOD: Final[type[Rebalancer]] = Retrain
