"""One round: a run, a strike, what came of it."""

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos_parts.checks import (
    Undisturbed,
    complete_shards,
    damages,
    made_again,
    verified,
)
from benchmarks.chaos_parts.command import HANGS, Command
from benchmarks.chaos_parts.damage import DAMAGES
from benchmarks.chaos_parts.ground import Ground
from benchmarks.chaos_parts.kinds import KINDS, NOT_REFUSED, Kind, Scene, wait_for_actors
from benchmarks.chaos_parts.moments import Moment

SHOWN = 1500
"""Last characters of what a command printed that stand in a report."""


@dataclass(slots=True, kw_only=True)
class Round:
    """What happened.

    Attributes:
        kind: of the strike.
        moment: when it came.
        hit: what was hit; empty: nothing was there to be hit.
        codes: exit codes of the commands that it took.
        seconds: of all of them; None where a run with several strikes went on.
        lost: seconds more than an undisturbed run takes; None where a finished run was damaged.
        problems: what must not be; empty is good.
    """

    kind: str
    moment: str = ""
    hit: str = ""
    codes: list[int] = field(default_factory=list)
    seconds: float | None = None
    lost: float | None = None
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """Where rounds are played.

    Attributes:
        ground: shared.
        undisturbed: what every round must end with.
        seconds: of an undisturbed run.
    """

    ground: Ground
    undisturbed: Undisturbed
    seconds: float

    def disturb(self, name: str, strikes: Sequence[tuple[str, Moment]], seed: int) -> list[Round]:
        """Plays a run that is struck, once or more often; a round for each strike.

        A run that ends early is started again by the same command. What is wrong at the end stands
        in the last round. A run with nothing wrong is removed.

        Args:
            name: of its folder.
            strikes: kinds and moments; a moment's seconds count from the latest start.
            seed: of what is left to chance.
        """
        rounds = [Round(kind=kind, moment=str(moment)) for kind, moment in strikes]
        on_disk = any(KINDS[kind].on_disk for kind, _ in strikes)
        folder = self.ground.disk if on_disk else self.ground.folder
        if folder is None:
            return rounds
        output, chance, last = folder / name, random.Random(seed), rounds[-1]
        remote = any(KINDS[kind].on_store for kind, _ in strikes)
        url = self.ground.store.url(name) if remote else ""
        complete: dict[Path, int] = {}
        clock = time.monotonic()
        command = self.ground.start(output, url)
        for played, (kind, moment) in zip(rounds, strikes, strict=True):
            if remote:  # its shards are not counted from outside
                moment = moment.by_clock(self.seconds, self.undisturbed.shards())
                played.moment = str(moment)
            moment.wait(command, lambda: len(list((output / "shards").glob("*.parquet"))))
            scene = Scene(ground=self.ground, command=command, output=output, chance=chance)
            complete |= complete_shards(output)
            ended = self._strike(KINDS[kind], scene, played, final=played is last)
            if ended:
                paused = time.monotonic()
                self.ground.repair()  # the time until somebody repairs is not the run's
                clock += time.monotonic() - paused
            if played.codes and played.codes[-1]:
                command = self.ground.start(output, url)
        if command.process.returncode is None or command.process.returncode:
            last.codes.append(command.wait())
            last.problems += _bad_ending(command, frozenset({0}), "")
        last.seconds = time.monotonic() - clock
        last.lost = None if remote else last.seconds - self.seconds
        if remote:
            self.ground.store.fetch(name, output)
        last.problems += made_again(complete, output)
        self._judge(output, last)
        return rounds

    def damage(self, name: str, kind: str, seed: int) -> Round:
        """Damages a copy of the finished run: a check must find it, a second run must mend it."""
        output, how = self.ground.folder / name, DAMAGES[kind]
        shutil.copytree(self.undisturbed.run, output)
        path = how.do(output / "shards", random.Random(seed))
        played = Round(kind=kind, moment="finished", hit=path.name)
        found = [*damages(output), *verified(output)]
        if not any(path.stem in problem for problem in found):
            played.problems.append(f"{path.name} is damaged, the checks say {found}")
        if not how.seen:
            path.unlink()  # as the operations page says
        clock = time.monotonic()
        command = self.ground.start(output)
        played.codes.append(command.wait())
        played.problems += _bad_ending(command, frozenset({0}), "")
        played.seconds = time.monotonic() - clock
        self._judge(output, played)
        return played

    def _strike(self, kind: Kind, scene: Scene, played: Round, *, final: bool) -> bool:
        """Strikes; waits for the end of the command where it is the last, or ends it.

        Returns:
            Whether the command has ended.
        """
        command = scene.command
        if kind.needs_actors:
            wait_for_actors(scene)
        played.hit = kind.strike(scene)
        if played.hit.startswith(NOT_REFUSED):
            played.problems.append(played.hit)
        if not (final or kind.ends):
            return False
        played.codes.append(command.wait(kind.seconds))
        played.problems += _bad_ending(command, kind.codes, kind.says)
        played.problems += [f"left behind: {process}" for process in command.left_behind()]
        return True

    def _judge(self, output: Path, played: Round) -> None:
        """What is wrong with a run that has come to its end, or is still around."""
        played.problems += [f"left behind: {p}" for p in self.ground.cluster.wait_until_idle()]
        played.problems += [*self.undisturbed.problems(output), *verified(output)]
        if not played.problems:
            for path in output.parent.glob(f"{output.name}*"):
                shutil.rmtree(path)


def prepare(ground: Ground) -> Stage:
    """Plays the undisturbed run, twice: the first is slower, and both must be equal."""
    runs = [ground.folder / name for name in ("warm-up", "undisturbed")]
    for run in runs:
        started = time.monotonic()
        command = ground.start(run)
        code = command.wait()
        if code:
            raise RuntimeError(f"the undisturbed run ended with {code}: {command.text()}")
        seconds = time.monotonic() - started
    undisturbed = Undisturbed.read(runs[1])
    if problems := [*undisturbed.problems(runs[0]), *verified(runs[0])]:
        raise RuntimeError(f"two undisturbed runs differ: {problems}")
    return Stage(ground=ground, undisturbed=undisturbed, seconds=seconds)


def _bad_ending(command: Command, codes: frozenset[int], says: str) -> list[str]:
    """What is wrong with how a command has ended, and with what it then said."""
    code, text = command.wait(), command.text()
    if code == HANGS:
        return [f"hangs: {text[-SHOWN:]}"]
    if code not in codes:
        return [f"exit code {code}: {text[-SHOWN:]}"]
    if code > 0 and "Traceback" in text:
        return [f"a traceback instead of an error: {text[-SHOWN:]}"]
    return [] if code <= 0 or says in text else [f"it does not say {says!r}: {text[-SHOWN:]}"]
