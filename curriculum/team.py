"""The processes that train one network together, each on its part of every batch.

Knows torch's process group, which must have been set up, and neither images nor who started it.
Nothing that travels between the processes is a pickle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from curriculum.shared_norm import share_statistics
from generators.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Team:
    """A process and how many it works with. Alone, it changes nothing anywhere.

    Attributes:
        rank: of this process, 0..size-1.
        size: processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes, looks and decides for all."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The places of a batch of `count` that are this process's own; they divide evenly.

        Raises:
            ConfigError: they do not.
        """
        if count % self.size:
            allowed = f"a multiple of the {self.size} processes that share a batch"
            raise ConfigError("batch_size", count, allowed)
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network to train: its gradients are the sums of all processes'.

        Of sums, not of means: each process's loss is the whole batch's, of which only the own rows
        have gradients. Batch normalisation takes its statistics from the whole batch.
        """
        if self.size == 1:
            return network
        if device.type == "cuda":
            from timm.layers import convert_sync_batchnorm  # torch's own drops timm's activations

            network = convert_sync_batchnorm(network)
        else:
            network = share_statistics(network)
        # Some networks have parameters that nothing depends on.
        wrapped = DistributedDataParallel(network, find_unused_parameters=True)
        wrapped.register_comm_hook(None, _sum)
        return wrapped

    def gather(self, rows: Tensor) -> Tensor:
        """All processes' rows in the order of their ranks; only the own ones have gradients."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def same(self, values: Tensor) -> Tensor:
        """The leader's values, in all processes; on the CPU. All give the same shape and type."""
        if self.size == 1:
            return values
        # NCCL sends between GPUs alone.
        place = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        travelling = values.to(place, copy=True)
        distributed.broadcast(travelling, src=0)
        return travelling.cpu()


ALONE = Team()


def unwrapped(network: nn.Module) -> nn.Module:
    """What `Team.wrap` was given, but for shared batch normalisation."""
    if isinstance(network, DistributedDataParallel):
        module: nn.Module = network.module
        return module
    return network


def _sum(state: None, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """The sum of all processes' gradients."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])
