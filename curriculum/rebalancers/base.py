"""The protocol of the rebalancer family, and what its members share."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from generators.errors import ConfigError
from generators.heads import Experts, classifier_of, replace_module


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureSet:
    """The training images as a frozen network sees them.

    Attributes:
        embeddings: (N, num_features) inputs of the last layer, of augmented images.
        labels: (N,) int64.
        class_counts: (num_classes,) the prior that the network was trained under.
        seed: of all draws.
    """

    embeddings: Tensor
    labels: Tensor
    class_counts: Tensor
    seed: int

    def balanced(self, num_samples: int) -> Tensor:
        """(num_samples,) rows: a class drawn uniformly, then one of its images."""
        rng, labels = np.random.default_rng(self.seed), self.labels.cpu().numpy()
        present = np.unique(labels)
        members = {label: np.flatnonzero(labels == label) for label in present.tolist()}
        drawn = [rng.choice(members[label]) for label in rng.choice(present, num_samples).tolist()]
        return torch.tensor(drawn, device=self.labels.device)


class Rebalancer(Protocol):
    """Changes a trained network's last layer; the layers before it stay as they are."""

    @property
    def num_passes(self) -> int:
        """How often each training image is looked at, augmented anew; 0: not at all."""

    def apply(self, network: nn.Module, features: FeatureSet) -> nn.Module:
        """The network, changed.

        Raises:
            ConfigError: it has no single linear last layer.
        """


def linear_of(network: nn.Module, name: str) -> nn.Linear:
    """The last layer.

    Raises:
        ConfigError: of several experts, or a cosine layer; names the rebalancer.
    """
    allowed = f"a loss with one linear classifier: {name} works on its weights"
    if isinstance(network, Experts):
        raise ConfigError("loss", "experts", allowed)
    found = classifier_of(network)
    if not isinstance(found, nn.Linear):
        raise ConfigError("loss", type(found).__name__, allowed)
    return found


def put_linear(network: nn.Module, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """The network with these weights in its last layer; without a bias it is 0."""
    old: Any = classifier_of(network)
    new = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.zero_() if bias is None else new.bias.copy_(bias)
    replace_module(network, old, new)
    return network
