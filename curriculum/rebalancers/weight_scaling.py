"""LWS: a learned scale for each class's weights (Kang et al. 2020, arXiv:1910.09217, Eq. 4)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import nn

from curriculum.fit_logits import fit_logits
from curriculum.rebalancers.base import FeatureSet, Rebalancer, linear_of, put_linear


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightScaling:
    """Keeps the directions of the last layer; one factor a class is trained on balanced classes.

    Attributes:
        num_passes: augmented looks at each training image, from which samples are drawn.
        steps: of SGD with momentum 0.9 and a cosine to 0.
        batch_size: images a step.
        learning_rate: at the start.
    """

    num_passes: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=1)] = 1000
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 0.05

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """From factors of 1; the bias is dropped."""
        weight = linear_of(network, "weight_scaling").weight.detach()
        scales = torch.ones(len(weight), device=weight.device).requires_grad_()
        fit_logits(
            lambda embeddings: scales * nn.functional.linear(embeddings, weight),
            [scales],
            features,
            (self.steps, self.batch_size),
            self.learning_rate,
        )
        return put_linear(network, scales.detach()[:, None] * weight)


METHOD: Final[type[Rebalancer]] = WeightScaling
