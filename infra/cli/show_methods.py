"""`discl methods`."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from generators.errors import ConfigError, one_of
from generators.registry import FAMILIES, Parameter, describe, names


def show_methods(family: str | None, *, as_json: bool) -> None:
    """Prints the methods of one family or of all."""
    if family is not None and family not in FAMILIES:
        raise ConfigError("FAMILY", family, one_of(FAMILIES, family))
    families = [family] if family else list(FAMILIES)
    found = [describe(name, method) for name in families for method in names(name)]
    if as_json:
        print(json.dumps([asdict(info) for info in found], indent=1, default=str))
        return
    console = Console()
    for name in families:
        table = Table(
            title=name, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        table.add_column("method", style="cyan", no_wrap=True)
        table.add_column("what it does")
        table.add_column("parameters", style="dim")
        for info in found:
            if info.family == name:
                about = [info.summary, info.paper, f"costs {info.cost}" if info.cost else ""]
                table.add_row(
                    info.name,
                    escape("\n".join(line for line in about if line)),
                    escape("\n".join(_lines(info.parameters))),
                )
        console.print(table)
        console.print()


def _lines(parameters: tuple[Parameter, ...], indent: str = "") -> Iterator[str]:
    """A line each, as in a config; those of a section below it, indented."""
    for item in parameters:
        text = f"{indent}{item.name}: {item.type.replace('typing.', '')}"
        if item.type == "section":
            yield text
        else:
            default = "''" if item.default == "" else item.default
            yield text if item.required else f"{text} = {default}"
        yield from _lines(item.parameters, indent + "  ")
