"""How fast the generating workers are, all together: numbers for tables, one line for terminals."""

from collections.abc import Collection, Mapping


def combined(gauges: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The gauges of several workers as one: what counts or flows adds up, shares are averaged.

    Args:
        gauges: of workers that are at work or were, each as `infra.jobs.account` gives it.
    """
    names = sorted({name for gauge in gauges for name in gauge})
    added = {name: sum(gauge.get(name, 0.0) for gauge in gauges) for name in names}
    averaged = {"share_of_bare_rate", "rows_per_batch", "batch_size"}
    return {
        name: value / max(1, len(gauges)) if name in averaged else value
        for name, value in added.items()
    }


def as_line(gauge: Mapping[str, float]) -> str:
    """What matters of a combined gauge, for a terminal; empty where there is none."""
    if "evaluations_per_second" not in gauge:
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
