"""How many workers fit on a cluster, and what each one gets. Knows no Ray, only numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from generators.errors import ConfigError

ROUNDING = 1e-6
"""1 // 0.1 is 9 in floats."""

Node = Mapping[str, float]
"""Resources of a machine: `CPU`, `GPU`, and others by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Equal workers, as they are asked for.

    Attributes:
        count: workers; None: as many as the GPUs allow, else one a CPU.
        threads: CPU threads each; None: an even share.
        gpus: GPUs each; None: 1 where there is one, else 0.
        resources: others each, e.g. `{"accelerator_type:A100": 0.01}`.
        device: where networks run; `auto` is the GPU, where a worker has one.
        place: of these fields in the config, for errors.
    """

    count: int | None = None
    threads: int | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    device: str = "auto"
    place: str = "workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Equal workers.

    Attributes:
        size: workers.
        threads: CPU threads each.
        num_cpus: what each reserves; less than `threads` where the machines are too small.
        num_gpus: GPUs each; a fraction shares one.
        resources: others each.
        device: where networks run.
    """

    size: int
    threads: int
    num_cpus: float
    num_gpus: float
    resources: Mapping[str, float] = field(default_factory=dict)
    device: str = "auto"


def lay_out(nodes: Sequence[Node], asked: GroupSpec) -> Layout:
    """Workers that all find a place: Ray lets what does not fit wait for ever.

    Args:
        nodes: the machines.
        asked: the workers.

    Raises:
        ConfigError: more GPUs or other resources asked for than there are.
    """
    all_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    num_gpus = asked.gpus if asked.gpus is not None else min(1.0, all_gpus)
    nodes, places = _with_resources(nodes, asked)
    if num_gpus:
        fitting = sum(_times(node, "GPU", num_gpus) for node in nodes)
        if fitting == 0:
            allowed = (
                f"0, as there is no GPU; {all_gpus:g} GPUs in all, never more than a machine's"
            )
            raise ConfigError(f"{asked.place}.gpus", num_gpus, allowed)
        places = fitting if places is None else min(places, fitting)
        nodes = [node for node in nodes if _times(node, "GPU", num_gpus)]
    if places is not None and asked.count is not None and asked.count > places:
        each = f"{num_gpus:g} GPUs" + "".join(
            f", {n:g} {name}" for name, n in asked.resources.items()
        )
        allowed = f"at most {places} with {each} each, or workers.autoscale"
        raise ConfigError(f"{asked.place}.count", asked.count, allowed)
    cpus = [max(1, int(node.get("CPU", 0.0))) for node in nodes if places or node.get("CPU")]
    cpus = cpus or [1]
    size = asked.count or places or sum(cpus)
    share = max(1, sum(cpus) // size)
    threads = asked.threads or share
    reserved = next(
        (n for n in range(threads, 0, -1) if sum(cpu // n for cpu in cpus) >= size),
        1 / math.ceil(size / sum(cpus)),
    )
    return _layout(asked, size, threads, reserved, num_gpus)


def lay_out_growing(asked: GroupSpec) -> Layout:
    """Workers on machines that come when they are asked for.

    Raises:
        ConfigError: their number is not given: nothing says how many there may be.
    """
    if asked.count is None:
        allowed = "the workers to ask for: with workers.autoscale nothing else says how many"
        raise ConfigError(f"{asked.place}.count", None, allowed)
    threads = asked.threads or 1
    return _layout(asked, asked.count, threads, float(threads), asked.gpus or 0.0)


def team_layout(layouts: Sequence[Layout], size: int) -> Layout:
    """Which workers form teams: the first kind that has enough, with whole GPUs or none.

    Of one kind, or the fast ones would wait for the slow ones at every step. NCCL wants a GPU for
    each process, and on CPUs there is Gloo; no other device has either.

    Raises:
        ConfigError: no kind has enough.
    """
    able = [each for each in layouts if _can_team(each)]
    for layout in able:
        if layout.size >= size:
            return layout
    most = max((layout.size for layout in able), default=1)
    allowed = f"at most {most}, the workers of one kind with whole GPUs each or on CPUs"
    raise ConfigError("workers.processes_per_training", size, allowed)


def _can_team(layout: Layout) -> bool:
    if layout.device == "mps":
        return False
    if layout.num_gpus:
        return layout.num_gpus >= 1
    return layout.device != "cuda"  # one that is not reserved may be all workers' own


def _layout(asked: GroupSpec, size: int, threads: int, num_cpus: float, num_gpus: float) -> Layout:
    return Layout(
        size=size,
        threads=threads,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=dict(asked.resources),
        device=asked.device,
    )


def _with_resources(nodes: Sequence[Node], asked: GroupSpec) -> tuple[list[Node], int | None]:
    """Machines that have the other resources, and the workers they are enough for."""
    if not asked.resources:
        return list(nodes), None
    fitting = [
        min(_times(node, name, amount) for name, amount in asked.resources.items())
        for node in nodes
    ]
    if not any(fitting):
        there = sorted({name for node in nodes for name in node} - {"CPU", "GPU"})
        allowed = f"resources of one of the machines ({', '.join(there) or 'there are none'})"
        raise ConfigError(f"{asked.place}.resources", dict(asked.resources), allowed)
    return [node for node, times in zip(nodes, fitting, strict=True) if times], sum(fitting)


def _times(node: Node, name: str, amount: float) -> int:
    """How often an amount of a resource is there."""
    return int(node.get(name, 0.0) / amount + ROUNDING)
