"""All measurements of scale as one table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def results_table(measurements: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a measurement."""
    table = Table("what", "found")
    for name, found in measurements.items():
        for row in _rows(name, found):
            table.add_row(*row)
    return table


def _rows(name: str, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "requests" in found:
        return [
            (
                f"{name}: {found['requests']:,} requests",
                f"{found['seconds']:.1f} s, {found['peak_mib']:,.0f} MiB; "
                f"{found['shards']:,} shards, {found['tasks']:,} Prefect tasks",
            )
        ]
    if "rows" in found:
        text = f"{found['seconds']:.1f} s, {found['peak_mib']:,.0f} MiB; {found['mib']:,.0f} MiB"
        return [(name, f"{text} of file")]
    if "median_trials" in found:
        rows = [(name, f"{found['mib_an_actor']:.0f} MiB each; driver {found['driver_mib']:.0f}")]
        for trial in found["median_trials"]:
            text = f"{trial['seconds']:.2f} s of {trial['ideal_seconds']:.0f}; driver's processor"
            about = f"{trial['tasks']} tasks, {trial['messages']} words each"
            rows.append((f"{name}, {about}", f"{text} {trial['driver_cpu']:.2f} s"))
        return rows
    return _model(found)


def _model(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    costs = found["costs"]
    rows = [
        (
            "costs",
            f"task {1e3 * costs['task']:.1f} ms, shard {1e3 * costs['shard']:.1f} ms, word "
            f"{1e3 * costs['word']:.2f} ms of the driver; {1e3 * costs['latency']:.0f} ms of wait",
        ),
        ("overhead at 10 s a shard", f"{100 * found['overhead_at_10_s']:.2f} %"),
    ]
    for case in found["against_trials"]:
        pairs = zip(case["measured"], case["modelled"], strict=True)
        text = ", ".join(f"{real:.2f} s: {said:.2f} s" for real, said in pairs)
        rows.append((f"measured: modelled, {case['actors']} actors", text))
    for name, out in found["outcomes"].items():
        text = (
            f"{out['tasks']:,} tasks, {out['seconds']:,.0f} s, {100 * out['efficiency']:.1f} % at "
            f"work, tail {out['tail_seconds']:.0f} s, driver {100 * out['driver_share']:.0f} %, "
            f"{out['retries']:.0f} retries ({out['retries_in_worst_minute']} in a minute)"
        )
        rows.append((f"1000 workers, {name}", text))
    return rows
