"""What a classifier ends with: a linear layer, a cosine layer, or several experts.

Sources: cosine classifier as in LDAM (Cao et al. 2019, arXiv:1906.07413); experts with shared early
layers as in RIDE (Wang et al. 2021, arXiv:2010.01809).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from generators.errors import ConfigError
from generators.registry import JsonValue
from generators.seeding import seeded


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """A classifier's last layers.

    Attributes:
        kind: `cosine` compares directions of features and class vectors, without bias.
        scale: of the cosine, so that logits spread far enough for a softmax.
        num_experts: copies of the last stage and the classifier; logits are their mean.
    """

    kind: Literal["linear", "cosine"] = "linear"
    scale: Annotated[float, Field(gt=0)] = 30.0
    num_experts: Annotated[int, Field(ge=1)] = 1

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "HeadSpec":
        """From its fields as plain data."""
        return cls(**data)


LINEAR = HeadSpec()


class CosineLinear(nn.Module):
    """scale * cos(features, class vector)."""

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scale = in_features, out_features, scale
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features), within ±scale."""
        directions = functional.normalize(x, dim=-1), functional.normalize(self.weight, dim=-1)
        return self.scale * functional.linear(*directions)


class Experts(nn.Module):
    """A network whose last stage and classifier exist several times.

    In training mode `forward` gives the logits of each, (N, num_experts, num_classes); in
    evaluation mode their mean, (N, num_classes).
    """

    def __init__(self, network: nn.Module, num_experts: int, *, alike: bool) -> None:
        super().__init__()
        late, classifier = last_stage(network), classifier_of(network)
        self.late = nn.ModuleList(_copy(late, alike=alike) for _ in range(num_experts))
        self.heads = nn.ModuleList(_copy(classifier, alike=False) for _ in range(num_experts))
        replace_module(network, late, nn.Identity())
        replace_module(network, classifier, nn.Identity())
        self.shared: Any = network
        self.num_features: int = cast(Any, network).num_features

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised inputs to what the last stages get."""
        features: Tensor = self.shared.forward_features(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits as in `forward`, or the mean embedding (N, num_features)."""
        embeddings = [self.shared.forward_head(late(x)) for late in self.late]
        if pre_logits:
            return torch.stack(embeddings).mean(0)
        pairs = zip(self.heads, embeddings, strict=True)
        logits = torch.stack([head(embedding) for head, embedding in pairs], dim=1)
        return logits if self.training else logits.mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.forward_head(self.forward_features(x))


def with_head(
    network: nn.Module, spec: HeadSpec, seed: int = 0, *, pretrained: bool = False
) -> nn.Module:
    """The network with another head; the same object where only its classifier changes.

    Args:
        network: from `create_classifier`.
        spec: of the head.
        seed: of the new weights; the global random state is left alone.
        pretrained: whether last stages of experts start alike, as they were learned.

    Raises:
        ConfigError: the network's last stage is not one that can be copied.
    """
    with seeded(seed):
        if spec.kind == "cosine":
            linear: Any = classifier_of(network)
            head = CosineLinear(linear.in_features, linear.out_features, spec.scale)
            replace_module(network, linear, head)
        if spec.num_experts == 1:
            return network
        return Experts(network, spec.num_experts, alike=pretrained)


def head_of(network: nn.Module) -> HeadSpec:
    """What `with_head` would have to be given to make such a head."""
    experts = network if isinstance(network, Experts) else None
    layer = classifier_of(network) if experts is None else experts.heads[0]
    count = 1 if experts is None else len(experts.heads)
    if isinstance(layer, CosineLinear):
        return HeadSpec(kind="cosine", scale=layer.scale, num_experts=count)
    return HeadSpec(num_experts=count)


def classifier_of(network: nn.Module) -> nn.Module:
    """The last layer: features to logits.

    Raises:
        ConfigError: it is no single layer.
    """
    getter: Any = getattr(network, "get_classifier", None)
    found = getattr(network, "head", None) if getter is None else getter()
    if not isinstance(found, nn.Linear | CosineLinear):
        allowed = "a network whose classifier is one linear layer"
        raise ConfigError("training.model", type(network).__name__, allowed)
    return found


def last_stage(network: nn.Module) -> nn.Module:
    """The last convolutional stage: `layer4` of timm's ResNets, the last block of `small_cnn`.

    Raises:
        ConfigError: the network has none that is known.
    """
    for name in ("layer4", "last_block"):
        found = getattr(network, name, None)
        if isinstance(found, nn.Module):
            return found
    allowed = "a ResNet of timm or small_cnn: experts copy their last stage"
    raise ConfigError("training.model", type(network).__name__, allowed)


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts another module where one is."""
    name = next(name for name, module in network.named_modules() if module is old)
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, new)


def _copy(module: nn.Module, *, alike: bool) -> nn.Module:
    """A copy; unless alike, its weights change places: other ones, drawn the same way."""
    copied = copy.deepcopy(module)
    if not alike:
        with torch.no_grad():
            for weights in copied.parameters():
                shuffled = weights.flatten()[torch.randperm(weights.numel())]
                weights.copy_(shuffled.view_as(weights))
    return copied
