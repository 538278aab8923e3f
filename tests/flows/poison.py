"""The real job, on real workers, that kills its worker when it comes to a certain shard."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

from infra.jobs.generate import generate_shards
from infra.jobs.shard_work import GeneratedShard, GenerateShard
from infra.workers.base import Progress, WorkerContext

POISON = "DISCL_TEST_POISON"
"""A folder: `shard` is the poisonous one's name, `deaths` gets a byte a death."""


def poisoned(
    context: WorkerContext, shards: tuple[GenerateShard, ...]
) -> Generator[Progress, None, list[GeneratedShard]]:
    folder = Path(os.environ[POISON])
    name = (folder / "shard").read_text()
    made = []
    for shard in shards:
        if shard.name == name:
            with (folder / "deaths").open("a") as stream:
                stream.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        made += yield from generate_shards(context, (shard,))
    return made
