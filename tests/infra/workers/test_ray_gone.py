"""A signal to the whole process group ends Ray before the run does: nobody waits for its answer."""

import subprocess
import sys

import pytest

from tests.support.commands import TIMEOUT

pytestmark = pytest.mark.slow

# The worker's death is noticed when there is no Ray any more that could start another.
CLOSED_WHILE_A_WORKER_IS_REPLACED = """
import threading, time
import psutil
from infra.errors import Interrupted
from infra.workers.layout import GroupSpec
from infra.workers.ray_pool import RayPool, RayPoolSpec

pool = RayPool(RayPoolSpec(groups=[GroupSpec(count=1, threads=1)], stall_seconds=60))
pool.pids()
threading.Timer(2, pool.close).start()
try:
    with pool.lease() as worker:
        worker.dead = True
        for process in psutil.Process().children():
            if "gcs_server" in process.name():
                process.kill()
        started = time.monotonic()
except Interrupted:
    print("interrupted after", time.monotonic() - started)
"""


def test_closing_does_not_wait_for_a_replacement_that_nobody_can_start() -> None:
    code = CLOSED_WHILE_A_WORKER_IS_REPLACED
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert done.stdout.startswith("interrupted after"), done.stdout + done.stderr
    assert 1 < float(done.stdout.split()[-1]) < 20  # Ray itself would take 60 s and end all
