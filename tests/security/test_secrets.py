"""Secrets of the environment are nowhere in what a whole run leaves behind."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.storage.atomic import read_table
from tests.support.tiny_run import tiny_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAME = "night-heron-4242"
"""What must be found: the run's own name."""
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED00000001",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret/4711",
    "AWS_SESSION_TOKEN": "planted-session-token-4712",
    "HF_TOKEN": "hf_plantedtoken4713",
    "FSSPEC_S3_SECRET": "planted-fsspec-secret-4714",
    "PREFECT_API_KEY": "pnu_plantedkey4715",
    "WANDB_API_KEY": "planted-of-another-library-4716",
}


def texts(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Every byte below a folder; tables also as they are read, for their pages are compressed."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()
            if path.suffix == ".parquet":
                yield path, repr(read_table(path).to_pylist()).encode()


def test_no_output_of_a_run_holds_a_secret(tmp_path: Path) -> None:
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    data = tiny_data(f"name={NAME}", "training.seeds=1", "compare={}", "workers.count=1")
    config.write_text(yaml.safe_dump(data))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with tempfile.TemporaryDirectory(prefix="r") as ray_folder:  # sockets want short paths
        environment = {**kept, **SECRETS, "RAY_TMPDIR": ray_folder, "DISCL_LOG_LEVEL": "debug"}
        command = [sys.executable, "-m", "infra.cli", "--log-format", "json", "run", str(config)]
        done = subprocess.run(
            [*command, "--output", str(out)],
            env=environment,
            capture_output=True,
            timeout=280,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed.decode()
        found = [*texts(out), *texts(Path(ray_folder)), (tmp_path / "printed", printed)]
    for name, secret in SECRETS.items():
        holders = {path for path, data in found if secret.encode() in data}
        assert not holders, name
    named = {path.name for path, data in found if NAME.encode() in data}
    assert {"config.yaml", "index.html", "result.json", "prefect.db"} <= named
    assert {"classifier.safetensors", "manifest.parquet", "printed"} <= {p.name for p, _ in found}
    assert any(path.suffix == ".tar" for path, _ in found)
    assert any("session" in str(path) for path, _ in found)  # Ray's own logs
