"""How fast the generating workers are, all together: numbers for tables, one line for terminals.

A job reports counters (`infra.jobs.account`); rates and shares are made of them here, so that jobs
that evaluate nothing, because they copy images, do not hide what the others do.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping

Counters = Mapping[str, float]
"""Of one job so far: evaluations, batches, capacity, queued, batch_size, seconds, bare_seconds,
and `<stage>_seconds` of every stage."""


def combined(workers: Collection[Collection[Counters]]) -> dict[str, float]:
    """What workers do together.

    Args:
        workers: the jobs of each.

    Returns:
        `evaluations_per_second` (added up over workers), `share_of_bare_rate`, `rows_per_batch`,
        `batch_size`, `queue` (rows that waited for a batch, on average), and the seconds of each
        stage; empty where nothing was evaluated.
    """
    sums = [_sum(jobs) for jobs in workers]
    total = _sum(sums)
    if not total.get("evaluations"):
        return {}
    return {
        "evaluations_per_second": sum(w["evaluations"] / max(1e-9, w["seconds"]) for w in sums),
        "share_of_bare_rate": total["bare_seconds"] / max(1e-9, total["seconds"]),
        "rows_per_batch": total["evaluations"] / total["batches"],
        "batch_size": total["capacity"] / total["batches"],
        "queue": total["queued"] / total["batches"],
        **{
            name: value
            for name, value in sorted(total.items())
            if name.endswith("_seconds") and name != "bare_seconds"
        },
    }


def as_line(gauge: Mapping[str, float]) -> str:
    """What matters of a combined gauge, for a terminal; empty where there is none."""
    if not gauge:
        return ""
    return (
        f"{gauge['evaluations_per_second']:,.0f} evaluations/s, "
        f"{100 * gauge['share_of_bare_rate']:.0f} % of the network alone, "
        f"{gauge['rows_per_batch']:.1f} of {gauge['batch_size']:.0f} rows a batch"
    )


def as_table(gauge: Mapping[str, float]) -> list[dict[str, str]]:
    """Rows of a table artifact."""
    return [
        {
            "what": name.replace("_", " "),
            "value": f"{value:,.3g}" if value < 1000 else f"{value:,.0f}",
        }
        for name, value in gauge.items()
    ]


def _sum(jobs: Collection[Counters]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for job in jobs:
        for name, value in job.items():
            total[name] += value
    return total
