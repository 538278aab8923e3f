"""Post-hoc logit adjustment (Menon et al. 2021, arXiv:2007.07314, Eq. 9)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import nn

from curriculum.losses.base import prior
from curriculum.rebalancers.base import FeatureSet, Rebalancer, linear_of, put_linear


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAdjustment:
    """Subtracts tau log pi from the logits; for networks trained with plain cross-entropy.

    Attributes:
        tau: 1 is consistent for the balanced error; 0 changes nothing.
    """

    tau: Annotated[float, Field(ge=0)] = 1.0

    @property
    def num_passes(self) -> int:
        """None."""
        return 0

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """The shift goes into the bias."""
        layer = linear_of(network, "logit_adjustment")
        shift = self.tau * prior(features.class_counts, layer.weight.detach()).log()
        bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach()
        return put_linear(network, layer.weight.detach(), bias - shift)


METHOD: Final[type[Rebalancer]] = LogitAdjustment
