"""Nearest class mean (Kang et al. 2020, arXiv:1910.09217, section 4.2)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import nn

from curriculum.rebalancers.base import FeatureSet, Rebalancer, linear_of
from generators.heads import CosineLinear, replace_module


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMeans:
    """The class whose mean embedding is closest by cosine.

    Attributes:
        scale: of the cosine; decides how sure the classifier is, not which class.
    """

    scale: Annotated[float, Field(gt=0)] = 30.0

    @property
    def num_passes(self) -> int:
        """Each image once."""
        return 1

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """A class without images keeps no direction: it is never closest."""
        layer = linear_of(network, "class_means")
        sums = torch.zeros_like(layer.weight).index_add_(0, features.labels, features.embeddings)
        means = CosineLinear(layer.in_features, layer.out_features, self.scale).to(sums.device)
        with torch.no_grad():
            means.weight.copy_(sums)
        replace_module(network, layer, means)
        return network


METHOD: Final[type[Rebalancer]] = ClassMeans
