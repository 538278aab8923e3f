"""Batch normalisation with the statistics of all processes' rows, on any device.

Torch's own `SyncBatchNorm` is for GPUs alone.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum of all processes' tensors. Each one's gradient is the sum of what all derive."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum(own: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(own)
    return total


class SharedBatchNorm(nn.Module):
    """As the layer it stands for, were the processes' batches one (Ioffe & Szegedy 2015, alg. 1).

    Has the same parameters and buffers under the same names, and timm's activation and dropout if
    the layer has them. Every process must see as many rows.

    Args:
        layer: what it stands for.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum, self.num_features = layer.eps, layer.momentum, layer.num_features
        self.weight: nn.Parameter | None = layer.weight
        self.bias: nn.Parameter | None = layer.bias
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))
        self.drop = getattr(layer, "drop", nn.Identity())
        self.act = getattr(layer, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, …) to the same."""
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None or var is None:
            mean, var = self._batch_statistics(x.float())
        scale = torch.rsqrt(var + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        out = torch.addcmul(_rows(shift, x), x.float(), _rows(scale, x)).to(x.dtype)
        found: Tensor = self.act(self.drop(out))
        return found

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(c,) mean and biased variance of all rows; moves the running ones."""
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = distributed.get_world_size() * x.numel() / x.shape[1]
        # Two passes: the mean of squares less the square of the mean cancels.
        mean = _sum(x.sum(axes)) / count
        var = _sum((x - _rows(mean, x)).square().sum(axes)) / count
        tracked = self.num_batches_tracked
        if self.training and not (
            tracked is None or self.running_mean is None or self.running_var is None
        ):
            tracked += 1
            rate = self.momentum if self.momentum is not None else 1 / float(tracked)
            with torch.no_grad():
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(var * count / (count - 1), rate)
        return mean, var


def _rows(values: Tensor, x: Tensor) -> Tensor:
    """(c,) values as those of the channels of (n, c, …)."""
    return values.view(1, -1, *[1] * (x.dim() - 2))


def share_statistics(network: nn.Module) -> nn.Module:
    """The network with all its batch normalisation layers replaced, in place where it can."""
    if isinstance(network, _BatchNorm):
        return SharedBatchNorm(network)
    for name, child in network.named_children():
        setattr(network, name, share_statistics(child))
    return network
