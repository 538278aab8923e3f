"""`discl methods`."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from generators.errors import ConfigError, one_of
from generators.registry import FAMILIES, MethodInfo, describe, names


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
                table.add_row(info.name, escape(info.summary), _parameters(info))
        console.print(table)
        console.print()


def _parameters(info: MethodInfo) -> str:
    lines = []
    for item in info.parameters:
        default = "''" if item.default == "" else item.default
        text = f"{item.name}: {item.type.replace('typing.', '')}"
        lines.append(text if item.required else f"{text} = {default}")
    return escape("\n".join(lines))
