"""The training loop of what guidance learns."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

REPORT_EVERY = 50
"""Updates."""


def descend(
    module: nn.Module,
    loss_of_batch: Callable[[], Tensor],
    steps: int,
    optimizer: torch.optim.Optimizer,
    *,
    decays: bool = True,
) -> Iterator[tuple[int, float]]:
    """Yields (updates made, loss) every so often and at the end; the module is trained in between.

    Args:
        module: in training mode meanwhile, in evaluation mode afterwards.
        loss_of_batch: of a batch of its own choosing, with gradients.
        steps: updates.
        optimizer: of what is trained.
        decays: whether its rate falls linearly to 0.
    """
    end = 1e-3 if decays else 1.0
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end, steps)
    module.train()
    for step in range(1, steps + 1):
        loss = loss_of_batch()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        if step % REPORT_EVERY == 0 or step == steps:
            yield step, float(loss.detach())
    module.eval()


def adamw(weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """With the weight decay of PPAP's and minority guidance's classifiers, 0.05."""
    return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.05)
