"""Copies of a classifier that are tuned to ranges of noise, few weights each (arXiv:2212.05973)."""

import copy
import warnings
from typing import Any

from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def make_expert(network: nn.Module, rank: int, alpha: float) -> nn.Module:
    """A copy with low-rank additions to all convolutions and linear layers but the last.

    What is trained: the additions, which begin at nothing, batch-norm weights, and biases.
    """
    from peft import LoraConfig, inject_adapter_in_model

    expert: Any = copy.deepcopy(network)
    targets = adapted_layers(expert)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="peft")
        expert = inject_adapter_in_model(config, expert)
    expert.requires_grad_(False)
    for name, parameter in expert.named_parameters():
        if "lora_" in name or (name.endswith("bias") and not _is_last(name, targets)):
            parameter.requires_grad_(True)
    for module in expert.modules():
        if isinstance(module, NORMS):
            module.requires_grad_(True)
    found: nn.Module = expert
    return found


def adapted_layers(network: nn.Module) -> list[str]:
    """Names of the layers that get additions: not grouped convolutions, not the last layer."""
    names = [
        name
        for name, module in network.named_modules()
        if (isinstance(module, nn.Conv2d) and module.groups == 1) or isinstance(module, nn.Linear)
    ]
    return names[:-1]


def trained_state(expert: nn.Module) -> dict[str, Any]:
    """What differs from the classifier: trained weights, and statistics of batch norms."""
    trained = {name for name, each in expert.named_parameters() if each.requires_grad}
    buffers = {name for name, _ in expert.named_buffers()}
    return {n: value for n, value in expert.state_dict().items() if n in trained | buffers}


def _is_last(name: str, targets: list[str]) -> bool:
    """Whether a bias belongs to a layer that is neither adapted nor a norm: the classifier."""
    layer = name.removesuffix(".bias").removesuffix(".base_layer")
    return layer not in targets
