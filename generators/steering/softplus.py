"""Classifiers whose gradients are smooth (Ma et al. 2023, arXiv:2310.11311, Sec. 3.3)."""

import dataclasses

from torch import nn

from generators.models import Models
from generators.steering.guide import Guide
from generators.steering.sharing import sharing_copy


def softened(models: Models, guide: Guide, beta: float) -> Guide:
    """The guide with a softplus for each ReLU, log(1 + exp(beta u)) / beta; made once.

    Shares its weights. Networks without ReLUs are as smooth as they are.
    """

    def make() -> Guide:
        network = sharing_copy(guide.network)
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.ReLU):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, nn.Softplus(beta=beta))
        return dataclasses.replace(guide, network=network)

    return models.keep(("softplus", guide, beta), make)
