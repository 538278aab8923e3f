"""Results of rounds: a line of JSON each, appended as they are played; a table of all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chaos_parts.damage import DAMAGES
from benchmarks.chaos_parts.kinds import KINDS
from infra.machine import describe_machine, describe_versions
from infra.storage.atomic import write_json

ORDER = (*KINDS, *DAMAGES)
CONTROL = "nothing"


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """All rounds that were played; a last line that was cut by a kill does not count."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append_round(path: Path, played: Mapping[str, Any]) -> None:
    """Adds a line, on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size
    with path.open("a") as stream:
        stream.write(("\n" if torn else "") + json.dumps(played) + "\n")


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the rounds say, by kind."""
    found, lost = {}, _lost(rounds)
    for kind in ORDER:
        played = [one for one in rounds if one["kind"] == kind and one["codes"]]
        if played:
            found[kind] = {
                "rounds": len(played),
                "struck": sum(bool(one["hit"]) for one in played),
                "failed": sum(bool(one["problems"]) for one in played),
                "started_again": sum(len(one["codes"]) > 1 for one in played),
                "lost_seconds": _spread([lost[id(one)] for one in played if id(one) in lost]),
            }
    return found


def write_summary(path: Path, rounds: Sequence[Mapping[str, Any]]) -> None:
    """Writes everything as one JSON file."""
    facts = {"machine": describe_machine(), "versions": describe_versions()}
    write_json(path, {**facts, "kinds": summary(rounds), "rounds": [dict(one) for one in rounds]})


def table(rounds: Sequence[Mapping[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = [
        "| kind | rounds | struck | failed | started again | time lost: median, most |",
        "|---|---|---|---|---|---|",
    ]
    for kind, one in summary(rounds).items():
        lost = one["lost_seconds"]
        shown = f"{lost['median']:+.1f} s, {lost['most']:+.1f} s" if lost else ""
        counts = " | ".join(str(one[name]) for name in ("rounds", "struck", "failed"))
        lines.append(f"| {kind} | {counts} | {one['started_again']} | {shown} |")
    return "\n".join(lines)


def _lost(rounds: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Seconds that rounds have lost, by the identity of the round.

    Counted from the latest round of the control before, for a machine that others share is not
    always as fast; the first ones from the undisturbed run.
    """
    found, control = {}, None
    for one in rounds:
        if one["lost"] is None or not one["hit"]:
            continue
        if one["kind"] == CONTROL:
            control = one["seconds"]
        else:
            found[id(one)] = one["lost"] if control is None else one["seconds"] - control
    return found


def _spread(lost: Sequence[float]) -> dict[str, float] | None:
    return {"median": round(median(lost), 1), "most": round(max(lost), 1)} if lost else None
