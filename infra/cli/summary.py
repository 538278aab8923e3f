"""The comparison as printed at the end of a run."""

from typing import Any

from rich.console import Console
from rich.table import Table

from infra.storage.runs import RunStore

COLUMNS = ("all", "many", "medium", "few", "macro_f1")


def print_result(console: Console, result: dict[str, Any], store: RunStore) -> None:
    """Prints arms with their means, gains with their intervals, and where the report is."""
    table = Table(
        title=f"{result['name']}: accuracy on the test images, mean of {result['seeds']} seeds (%)",
        title_justify="left",
    )
    table.add_column("arm")
    for name in (*COLUMNS, "few: gain over baseline (95 %)"):
        table.add_column(name, justify="right")
    for name, arm in result["arms"].items():
        values = [_number(arm["mean"][metric]) for metric in COLUMNS]
        table.add_row(name, *values, _gain(result["gains"].get(name, {}).get("few")))
    console.print(table)
    images = result["images"]
    refused = ", ".join(f"{count} {reason}" for reason, count in images["rejected"].items())
    console.print(
        f"synthetic images: {images['requested']} requested, {images['accepted']} accepted"
        + (f" (refused: {refused})" if refused else ""),
        highlight=False,
    )
    console.print(f"report: {store.report / 'index.html'}", highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _gain(gain: dict[str, Any] | None) -> str:
    if not gain or gain["mean"] is None:
        return "-"
    interval = gain["ci95"]
    text = f"{gain['mean']:+.1f}"
    return f"{text} [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else text
