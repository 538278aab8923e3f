"""What is done to a run, one function a kind. Each says in a line what it has hit, or nothing."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.chaos_parts.command import TIMEOUT, Command
from benchmarks.chaos_parts.ground import Ground
from infra.storage.atomic import temporary_files

STOP_SECONDS: Final = 60
NOT_REFUSED: Final = "not refused"
FOLDERS: Final = ("shards", "scores", "levels", "real", ".")
"""Where a run writes files that appear whole or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A run and what is around it.

    Attributes:
        ground: Prefect, Ray, disk.
        command: of the run.
        output: folder of the run.
        chance: chooses among several.
    """

    ground: Ground
    command: Command
    output: Path
    chance: random.Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to disturb a run at work.

    Attributes:
        strike: does it, and says what was hit; empty: nothing was there to be hit.
        codes: exit codes the run may end with; after one that is not 0 it is started again.
        says: what it must print where it ends with a code above 0.
        needs_actors: waits for workers before it strikes.
        on_disk: plays on the small disk.
        on_store: plays in the object store.
        ends: the command ends by it.
        seconds: in which the command must end after it.
    """

    strike: Callable[[Scene], str]
    codes: frozenset[int] = frozenset({0})
    says: str = ""
    needs_actors: bool = False
    on_disk: bool = False
    on_store: bool = False
    ends: bool = False
    seconds: float = TIMEOUT


def wait_for_actors(scene: Scene) -> None:
    """Returns when there are workers, or when the run has ended."""
    while scene.command.runs and not scene.ground.cluster.actors():
        time.sleep(0.02)


def kill_actor(scene: Scene) -> str:
    """SIGKILL to one Ray actor."""
    actors = scene.ground.cluster.actors()
    return _kill(scene.chance.sample(actors, min(1, len(actors))), "actors")


def kill_actors_of_a_node(scene: Scene) -> str:
    """SIGKILL to all actors of the node that has most of them."""
    return _kill(max(scene.ground.cluster.actors_by_node(), key=len), "actors")


def kill_raylet(scene: Scene) -> str:
    """SIGKILL to the raylet of the node with most actors; they end with it."""
    cluster = scene.ground.cluster
    _, raylet = max(
        zip(map(len, cluster.actors_by_node()), cluster.raylets(), strict=True), key=_first
    )
    return _kill([raylet], "raylet of a node")


def kill_head(scene: Scene) -> str:
    """SIGKILL to the raylet of the head, where the driver lives: the cluster is lost."""
    return _kill(scene.ground.cluster.head(), "raylet of the head")


def kill_driver(scene: Scene) -> str:
    """SIGKILL to the command itself."""
    if not scene.command.runs:
        return ""
    scene.command.end()
    return "driver"


def interrupt(scene: Scene) -> str:
    """SIGINT to the command's session, as Ctrl-C does."""
    return _signal(scene, signal.SIGINT)


def terminate(scene: Scene) -> str:
    """SIGTERM to the command's session, as a machine that goes down does."""
    return _signal(scene, signal.SIGTERM)


def kill_prefect(scene: Scene) -> str:
    """SIGKILL to the Prefect server, which is started again at once, as a supervisor would."""
    if not scene.command.runs:
        return ""
    scene.ground.prefect.kill()
    scene.ground.prefect.start()
    return "Prefect server"


def fill_disk(scene: Scene) -> str:
    """Leaves no byte free where the run writes, until the run has ended."""
    if not scene.command.runs:
        return ""
    filler = scene.output.with_name("filler")
    written = 0
    try:
        with filler.open("wb", buffering=0) as stream:
            while True:
                written += stream.write(bytes(65_536))
    except OSError:
        pass
    scene.command.wait()
    filler.unlink()
    return f"{written / 2**20:.0f} MiB were free"


def spoil_temporary(scene: Scene) -> str:
    """SIGKILL to driver and actors; half-written files are made worse, and one is planted."""
    if not scene.command.runs:
        return ""
    scene.command.end()
    _kill(scene.ground.cluster.actors(), "actors")
    left = [path for name in FOLDERS for path in temporary_files(scene.output / name)]
    for path in left:
        path.write_bytes(path.read_bytes()[:100] + scene.chance.randbytes(1000))
    whole = [path for name in FOLDERS for path in sorted((scene.output / name).glob("*.*"))]
    torn = [scene.chance.choice(whole)] if whole else []
    for path in torn:
        name = f".{path.name}.{scene.chance.randbytes(8).hex()}.tmp"
        path.with_name(name).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return f"{len(left)} temporary files left, {len(torn)} planted"


def cut_store(scene: Scene) -> str:
    """Cuts all connections of the object store for some seconds."""
    seconds = scene.chance.uniform(1, 8)
    scene.ground.store.cut(seconds)
    return f"cut for {seconds:.0f} s"


def second_driver(scene: Scene) -> str:
    """Starts the same run a second time while the first is at work: it must be refused."""
    second = Command(scene.command.order)
    code = second.wait()
    if not scene.command.runs:
        return "" if code in (0, 2) else f"{NOT_REFUSED}: exit code {code}: {second.text()[-500:]}"
    if code != 2 or "another run" not in second.text():
        return f"{NOT_REFUSED}: exit code {code}: {second.text()[-500:]}"
    return "the second was refused"


def _stopped(strike: Callable[[Scene], str]) -> Kind:
    codes = frozenset({0, 130})
    return Kind(strike=strike, codes=codes, says="continues", ends=True, seconds=STOP_SECONDS)


KINDS: Final = {
    "nothing": Kind(strike=lambda _: "nothing"),
    "actor": Kind(strike=kill_actor, needs_actors=True),
    "node_actors": Kind(strike=kill_actors_of_a_node, needs_actors=True),
    "raylet": Kind(strike=kill_raylet, needs_actors=True),
    "head": Kind(strike=kill_head, codes=frozenset({0, 1}), needs_actors=True, ends=True),
    "driver": Kind(strike=kill_driver, codes=frozenset({0, -9}), ends=True),
    "interrupt": _stopped(interrupt),
    "terminate": _stopped(terminate),
    "prefect": Kind(strike=kill_prefect, codes=frozenset({0, 1})),
    "disk": Kind(
        strike=fill_disk, codes=frozenset({0, 2}), says="no space left", on_disk=True, ends=True
    ),
    "temporary": Kind(strike=spoil_temporary, codes=frozenset({0, -9}), ends=True),
    "store": Kind(strike=cut_store, codes=frozenset({0, 1}), on_store=True),
    "two_drivers": Kind(strike=second_driver),
}
"""By name. `nothing` is the control: what time is lost is counted from it."""


def _kill(processes: list[psutil.Process], what: str) -> str:
    hit = 0
    for process in processes:
        try:
            process.kill()
            hit += 1
        except psutil.NoSuchProcess:
            continue
    return f"{hit} {what}" if hit else ""


def _signal(scene: Scene, number: signal.Signals) -> str:
    if not scene.command.runs:
        return ""
    scene.command.signal_group(number)
    return "driver's session"


def _first(pair: tuple[int, psutil.Process]) -> int:
    return pair[0]
