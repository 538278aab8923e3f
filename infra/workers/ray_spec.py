"""Which workers a Ray pool has: as they are asked for, and as the cluster has room for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.workers.layout import GroupSpec, Layout, lay_out, lay_out_growing, team_layout
from infra.workers.ray_start import living_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPoolSpec:
    """Which workers, and where.

    Attributes:
        groups: of equal workers.
        address: of a running cluster; None: start Ray on this machine.
        stall_seconds: a job silent for longer counts as dead.
        wait_seconds: without any worker for longer, the run ends.
        autoscale: machines for them may still have to come.
        team: workers of the largest team that will be leased.
        environment: variables the workers get beside their own; secrets.
    """

    groups: Sequence[GroupSpec] = (GroupSpec(),)
    address: str | None = None
    stall_seconds: int = 1800
    wait_seconds: int = 1800
    autoscale: bool = False
    team: int = 1
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def layouts_of(spec: RayPoolSpec) -> list[Layout]:
    """The workers of each group.

    Raises:
        ConfigError: more asked for than the cluster has, or a larger team than they can form.
    """
    if spec.autoscale:
        layouts = [lay_out_growing(group) for group in spec.groups]
    else:
        nodes = living_nodes()
        layouts = [lay_out(nodes, group) for group in spec.groups]
    if spec.team > 1:
        team_layout(layouts, spec.team)
    return layouts


def demand(layouts: Sequence[Layout]) -> str:
    """What is asked for, for people."""
    each = [
        f"{layout.size} x {layout.num_cpus:g} CPU, {layout.num_gpus:g} GPU"
        + "".join(f", {amount:g} {name}" for name, amount in layout.resources.items())
        for layout in layouts
    ]
    return "asked for " + "; ".join(each)
