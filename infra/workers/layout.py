"""How many workers fit on a cluster, and what each one gets. Knows no Ray, only numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from generators.errors import ConfigError

ROUNDING = 1e-6
"""1 // 0.1 is 9 in floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Equal workers.

    Attributes:
        size: workers.
        threads: CPU threads each.
        num_cpus: what each reserves; less than `threads` where the machines are too small.
        num_gpus: GPUs each; a fraction shares one.
    """

    size: int
    threads: int
    num_cpus: float
    num_gpus: float


def lay_out(
    nodes: Sequence[Mapping[str, float]],
    count: int | None = None,
    threads: int | None = None,
    gpus: float | None = None,
) -> Layout:
    """Workers that all find a place: Ray lets what does not fit wait for ever.

    Args:
        nodes: `CPU` and `GPU` of each machine.
        count: workers; None: as many as the GPUs allow, else one a CPU.
        threads: CPU threads each; None: an even share.
        gpus: GPUs each; None: 1 where there is one, else 0.

    Raises:
        ConfigError: more GPUs asked for than there are.
    """
    all_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    num_gpus = gpus if gpus is not None else min(1.0, all_gpus)
    places = None
    if num_gpus:
        places = sum(int(node.get("GPU", 0.0) / num_gpus + ROUNDING) for node in nodes)
        if places == 0:
            allowed = (
                f"0, as there is no GPU; {all_gpus:g} GPUs in all, never more than a machine's"
            )
            raise ConfigError("workers.gpus", num_gpus, allowed)
        if count is not None and count > places:
            raise ConfigError(
                "workers.count", count, f"at most {places} with {num_gpus:g} GPUs each"
            )
        nodes = [node for node in nodes if node.get("GPU", 0.0) + ROUNDING >= num_gpus]
    cpus = [max(1, int(node.get("CPU", 0.0))) for node in nodes if num_gpus or node.get("CPU")]
    cpus = cpus or [1]
    size = count or places or sum(cpus)
    share = max(1, sum(cpus) // size)
    reserved = next(
        (n for n in range(threads or share, 0, -1) if sum(cpu // n for cpu in cpus) >= size),
        1 / math.ceil(size / sum(cpus)),
    )
    return Layout(size=size, threads=threads or share, num_cpus=reserved, num_gpus=num_gpus)
