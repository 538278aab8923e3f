"""Tau-normalisation of the classifier (Kang et al. 2020, arXiv:1910.09217, Eq. 3)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import nn

from curriculum.rebalancers.base import FeatureSet, Rebalancer, linear_of, put_linear


@dataclass(frozen=True, slots=True, kw_only=True)
class TauNormalization:
    """Divides each class's weights by their norm to the power of tau, and drops the bias.

    Attributes:
        tau: 0 changes nothing but the bias, 1 makes all norms equal.
    """

    tau: Annotated[float, Field(ge=0, le=1)] = 0.7

    @property
    def num_passes(self) -> int:
        """None."""
        return 0

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """Needs no image."""
        weight = linear_of(network, "tau_normalization").weight.detach()
        norms = weight.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return put_linear(network, weight / norms**self.tau)


METHOD: Final[type[Rebalancer]] = TauNormalization
