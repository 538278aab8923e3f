import torch

from curriculum.losses.base import LossContext


def told(*counts: float, progress: float = 0.0) -> LossContext:
    """What a loss is told of a pool with these images a class."""
    return LossContext(class_counts=torch.tensor(counts), progress=progress)
