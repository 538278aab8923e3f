"""How many images a budget buys in each cell: a class at an image-guidance level."""

import numpy as np
from numpy.typing import NDArray

from curriculum.schedules.base import Cells, GenerationSchedule


def allot(
    schedule: GenerationSchedule,
    gains: Cells,
    missing: NDArray[np.int64],
    costs: NDArray[np.float64],
    budget: int,
) -> NDArray[np.int64]:
    """Shares a budget as the schedule wants; what a full cell leaves over goes to the others.

    Args:
        schedule: says which part of a budget each cell gets.
        gains: (num_classes, num_levels) progress measured; NaN for none.
        missing: (num_classes, num_levels) images that may be made.
        costs: (num_levels,) of one image, above 0, in the unit of the budget.
        budget: to spend.

    Returns:
        (num_classes, num_levels) images to make; they cost at most the budget, and nothing more
        that the schedule wants could be bought with the rest.
    """
    counts, price = np.zeros_like(missing), np.broadcast_to(costs, missing.shape)
    while True:
        left = budget - float((counts * price).sum())
        is_open = (counts < missing) & (price <= left)
        if not is_open.any():
            return counts
        wanted = schedule.shares(gains, is_open) * left / price
        if not (wanted > 0).any():
            return counts
        whole = np.minimum(np.floor(wanted + 1e-9).astype(np.int64), missing - counts)
        counts += whole
        left -= float((whole * price).sum())
        counts += _one_each(np.where(counts < missing, wanted - whole, 0.0), price, left)


def _one_each(parts: Cells, price: Cells, left: float) -> NDArray[np.int64]:
    """One image for each cell that wants a part of one, the largest parts first, while it lasts.

    Of equal parts the first class and level.
    """
    more = np.zeros(parts.shape, dtype=np.int64)
    for cell in np.argsort(-parts, axis=None, kind="stable"):
        at = np.unravel_index(cell, parts.shape)
        if parts[at] > 0 and price[at] <= left:
            more[at], left = 1, left - float(price[at])
    return more
