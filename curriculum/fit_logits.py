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
    rows: Tensor,
    learning_rate: float,
) -> None:
    """Changes the parameters in place, by SGD with momentum 0.9 and a cosine to 0.

    Args:
        logits_of: embeddings (N, num_features) to logits (N, num_classes).
        parameters: that it depends on.
        features: of the training images.
        rows: (steps, batch_size) of them.
        learning_rate: at the start.
    """
    optimizer = torch.optim.SGD(list(parameters), lr=learning_rate, momentum=0.9)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(rows))
    for batch in rows:
        loss = functional.cross_entropy(
            logits_of(features.embeddings[batch]), features.labels[batch]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
