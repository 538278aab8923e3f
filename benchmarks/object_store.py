"""What an object store costs a run: `python -m benchmarks.object_store`.

A real S3 server (moto) on loopback, behind a proxy that counts requests and makes some of them
fail. Server, proxy and run share the machine's cores.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import yaml

from generators.places import Place, place
from infra.prefect_server import PrivateServer
from infra.storage.shards import ShardMember, write_shard
from tests.infra.storage.samples import encoded
from tests.support.object_store import BUCKET, Faults, failing, serving
from tests.support.tiny_run import tiny_data

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
FAULTS: Mapping[str, Mapping[str, float]] = {
    "s3, no faults": {},
    "s3, 5 % of the requests answered 500 or 503": {"error": 0.05},
    "s3, 5 % errors, 2 % slow, 2 % cut each way": {
        "error": 0.05,
        "slow": 0.02,
        "cut_request": 0.02,
        "cut_response": 0.02,
    },
}
SHARD_BYTES = (100_000, 10_000_000, 100_000_000)


def main() -> None:
    """Prints the rows of the tables in RESULTS.md."""
    faults = Faults()
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(KEYS) as direct,
        failing(direct["AWS_ENDPOINT_URL"], faults) as url,
    ):
        os.environ.update({**direct, "AWS_ENDPOINT_URL": url, "DISCL_CACHE": f"{scratch}/cache"})
        folder = Path(scratch)
        with prefect(folder / "prefect"):
            print("| output | run, s | requests | failed |\n|---|---|---|---|")
            print(f"| disk | {run(folder, str(folder / 'run')):.0f} | 0 | 0 |")
            for number, (name, shares) in enumerate(FAULTS.items()):
                faults.shares = dict(shares)
                faults.done.clear()
                seconds = run(folder, f"s3://{BUCKET}/runs/{number}")
                asked = sum(count for kind, count in faults.done.items() if kind != "bytes")
                failed = asked - faults.done["ok"] - faults.done["slow"]
                print(f"| {name} | {seconds:.0f} | {asked} | {failed} |", flush=True)
        faults.shares = {}
        print("\n| shard, MB | disk, ms | s3, ms |\n|---|---|---|")
        for size in SHARD_BYTES:
            times = [shard_ms(at, size) for at in (folder / "s", place(f"s3://{BUCKET}/s"))]
            print(f"| {size / 1e6:g} | {times[0]:.0f} | {times[1]:.0f} |", flush=True)


@contextmanager
def prefect(home: Path) -> Iterator[None]:
    """One Prefect server for all runs."""
    server = PrivateServer(home)
    try:
        os.environ["PREFECT_API_URL"] = server.wait()
        yield
    finally:
        server.stop()


def run(folder: Path, output: str) -> float:
    """Seconds of a tiny whole run with two Ray workers."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_data("workers.kind=ray")))
    started = time.perf_counter()
    command = [sys.executable, "-m", "infra.cli", "run", str(config), "--output", output]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def shard_ms(where: Place, num_bytes: int) -> float:
    """Median milliseconds of five writes of a shard: tar and rows."""
    image, times = encoded(0), []
    filler = "x" * (num_bytes // 100)
    for number in range(5):
        keys = [f"{number:02d}-{index:04d}" for index in range(100)]
        members = [
            ShardMember(key=key, image=image, extension="png", label=0, info={"filler": filler})
            for key in keys
        ]
        rows = pa.table({"key": keys})
        started = time.perf_counter()
        write_shard(where, f"s{secrets.token_hex(4)}", members, rows)
        times.append(time.perf_counter() - started)
    return sorted(times)[2] * 1e3


if __name__ == "__main__":
    main()
