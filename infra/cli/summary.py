"""The comparison as printed at the end of a run."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from infra.config.schema import BASELINE, CURRICULUM
from infra.storage.atomic import read_json
from infra.storage.runs import RunStore

COLUMNS = {"all": "all", "many": "many", "medium": "medium", "few": "few", "macro_f1": "F1"}


def print_result(console: Console, result: dict[str, Any], store: RunStore) -> None:
    """Prints arms with their means, gains with their intervals, and where the report is."""
    table = Table(
        title=f"{result['name']}: accuracy on the test images, mean of {result['seeds']} seeds (%)",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("arm", no_wrap=True)
    for name in COLUMNS.values():
        table.add_column(name, justify="right")
    table.add_column("few: gain, 95 %", justify="right", no_wrap=True)
    first = (BASELINE, CURRICULUM)
    for name in [*first, *(name for name in result["arms"] if name not in first)]:
        values = [_number(result["arms"][name]["mean"][metric]) for metric in COLUMNS]
        table.add_row(name, *values, _gain(result["gains"].get(name, {}).get("few")))
    console.print(table)
    print_images(console, result, store)


def print_images(console: Console, result: dict[str, Any], store: RunStore) -> None:
    """Prints how many images there are, what they cost, and where the report is."""
    images = result["images"]
    refused = ", ".join(f"{count} {reason}" for reason, count in images["rejected"].items())
    if images["requested"]:
        console.print(
            f"synthetic images: {images['requested']} requested, {images['accepted']} accepted"
            + (f" (refused: {refused})" if refused else ""),
            highlight=False,
            soft_wrap=True,
        )
    if cost := result.get("cost"):
        console.print(cost_line(cost), highlight=False, soft_wrap=True)
    console.print(f"report: {store.report / 'index.html'}", highlight=False, soft_wrap=True)


def print_study(console: Console, store: RunStore) -> None:
    """Prints the table of a study, and where its other forms are."""
    found = read_json(store.study / "study.json")
    title = "Test images, mean over seeds ± 95 %; against the best on real images, *: p < 0.05"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(found["table"]["columns"]):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=True)
    for line in found["table"]["lines"]:
        table.add_row(*line)
    wide = Console(width=max(console.width, 112), file=console.file, soft_wrap=True)
    wide.print(table)
    console.print(f"tables: {store.study}", highlight=False, soft_wrap=True)


def cost_line(cost: dict[str, Any]) -> str:
    """What an accepted image cost, as one line."""
    each = cost["per_accepted"]
    if each["worker_seconds"] is None:
        return f"cost: {cost['worker_seconds']:.1f} worker seconds, and no image accepted"
    if not cost["model_evaluations"]:
        return "no model evaluations: all images are copies"
    line = f"an accepted image: {each['model_evaluations']:.1f} model evaluations, "
    line += f"{each['worker_seconds']:.3g} worker seconds"
    return line + (f", price {each['price']:.3g}" if each["price"] is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _gain(gain: dict[str, Any] | None) -> str:
    if not gain or gain["mean"] is None:
        return "-"
    interval = gain["ci95"]
    text = f"{gain['mean']:+.1f}"
    return f"{text} [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else text
