"""A benchmark's quick run, as its command."""

import subprocess
import sys
from pathlib import Path


def quick_run(module: str, output: Path) -> str:
    """What it prints; its results are in `output`."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--quick", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
