"""Trains a function of fixed embeddings by cross-entropy, for decoupled training."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from curriculum.rebalancers.base import FeatureSet


def fit_logits(
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    features: FeatureSet,
    shape: tuple[int, int],
    learning_rate: float,
) -> None:
    """Changes the parameters in place, by class-balanced SGD with momentum 0.9 and a cosine to 0.

    Args:
        logits_of: embeddings (N, num_features) to logits (N, num_classes).
        parameters: that it depends on.
        features: of the training images.
        shape: (steps, batch_size).
        learning_rate: at the start.
    """
    steps, batch_size = shape
    rows = features.balanced(steps * batch_size).view(shape)
    optimizer = torch.optim.SGD(list(parameters), lr=learning_rate, momentum=0.9)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in rows:
        loss = functional.cross_entropy(
            logits_of(features.embeddings[batch]), features.labels[batch]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
