"""Disturbs runs at random moments and checks that nothing is lost.

`python -m benchmarks.chaos --rounds 100` plays rounds of 10 to 30 s each. Every round is appended
to `chaos.jsonl` beside the output; the same command goes on where it was stopped. A user who may
not mount file systems starts it with `unshare -rm` in front, or the disk is not filled.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos_parts.damage import DAMAGES
from benchmarks.chaos_parts.ground import open_ground
from benchmarks.chaos_parts.moments import draw_moment
from benchmarks.chaos_parts.results import ORDER, append_round, read_rounds, table, write_summary
from benchmarks.chaos_parts.rounds import Round, Stage, prepare

OUTPUT = Path(__file__).parent / "results" / "chaos.json"


def main() -> int:
    """Plays the rounds that are missing; 1 if anything was wrong in one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=ORDER, default=list(ORDER))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    lines = asked.output.with_suffix(".jsonl")
    there = {(one["seed"], one["number"], one["kind"]) for one in read_rounds(lines)}
    wanted = [
        (asked.seed, number, asked.kinds[number % len(asked.kinds)])
        for number in range(asked.rounds)
    ]
    missing = [one for one in wanted if one not in there]
    if missing:
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            open_ground(Path(folder)) as ground,
        ):
            stage = prepare(ground)
            for seed, number, kind in missing:
                one = _play(stage, seed, number, kind)
                append_round(lines, {"seed": seed, "number": number, **one.as_json()})
                print(_line(number, one), flush=True)
    rounds = read_rounds(lines)
    write_summary(asked.output, rounds)
    print(table(rounds))
    return int(any(one["problems"] for one in rounds))


def _play(stage: Stage, seed: int, number: int, kind: str) -> Round:
    chance, name = random.Random(f"{seed} {number}"), f"round-{number}"
    if kind in DAMAGES:
        return stage.damage(name, kind, chance.randrange(2**32))
    moment = draw_moment(chance, stage.seconds, stage.undisturbed.shards())
    return stage.disturb(name, [(kind, moment)], chance.randrange(2**32))[0]


def _line(number: int, one: Round) -> str:
    lost = "" if one.lost is None else f", {one.lost:+.1f} s"
    problems = "".join(f"\n    PROBLEM {text}" for text in one.problems)
    return f"{number:3d} {one.kind:<12} {one.moment}: {one.hit}; {one.codes}{lost}{problems}"


if __name__ == "__main__":
    sys.exit(main())
