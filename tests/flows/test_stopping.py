"""A whole command with a worker in its own process: it stops when it is told to."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from infra.storage.checkpoint import load_checkpoint
from tests.infra.jobs.world import write_images
from tests.support.commands import TIMEOUT, start_discl

pytestmark = pytest.mark.slow

STEPS = 1_000_000
QUICK = {"steps": STEPS, "batch_size": 2, "block_out_channels": [8], "attention": False}
ENDLESS_STEP = {**QUICK, "batch_size": 200_000}


class Fit:
    """`discl fit` with a local worker, in a process of its own."""

    def __init__(self, folder: Path, spec: dict[str, object]) -> None:
        write_images(folder / "images", {"upright": 6, "across": 5})
        config = {
            "name": "generator",
            "data": {
                "source": {"name": "folder", "path": str(folder / "images")},
                "test_percent": 20,
                "channels": 1,
                "image_size": 8,
            },
            "fit": spec,
            "knowledge": "stripes",
            "workers": {"kind": "local", "threads": 1},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.folder, self.log = folder / "output" / "generator", folder / "log.txt"
        words = ["fit", str(folder / "config.yaml"), "-o", str(folder / "output")]
        with self.log.open("w") as log:
            self.process = start_discl(*words, stdout=log)

    def wait_for(self, text: str) -> None:
        """Returns when it has said so."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


StartFit = Callable[[dict[str, object]], Fit]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartFit]:
    """Starts a fit; whatever it does, it does not outlive the test."""
    started: list[Fit] = []

    def start(spec: dict[str, object]) -> Fit:
        started.append(Fit(tmp_path, spec))
        return started[-1]

    yield start
    for fit in started:
        fit.process.kill()
        fit.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_fit_ends_at_its_next_step_and_keeps_what_it_made(
    start: StartFit, number: int
) -> None:
    fit = start(QUICK)
    fit.wait_for(f"/{STEPS} steps,")
    fit.process.send_signal(number)
    assert fit.process.wait(timeout=30) == 130
    assert "the same command continues the run" in fit.log.read_text()
    made = load_checkpoint(fit.folder / "checkpoint.pt")["losses"][-1][0]
    assert 0 < made < STEPS


def test_a_second_interrupt_does_not_wait_for_the_step(start: StartFit) -> None:
    fit = start(ENDLESS_STEP)
    fit.wait_for("fit generator: ")
    time.sleep(5)
    fit.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        fit.process.wait(timeout=5)
    fit.process.send_signal(signal.SIGINT)
    assert fit.process.wait(timeout=10) == 130
