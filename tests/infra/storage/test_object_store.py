"""Real runs on a real S3 server that fails: the same bytes as on a disk, nothing lost or left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
import webdataset as wds
import yaml
from typer.testing import CliRunner

from infra.cli.app import app
from infra.prefect_server import PrivateServer
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from tests.support.commands import TIMEOUT
from tests.support.object_store import BUCKET, Faults, failing, serving
from tests.support.tiny_run import tiny_data

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "planted too"}
FAULTS = {"error": 0.03, "slow": 0.01, "cut_request": 0.01, "cut_response": 0.01}
CHANGES = ("workers.kind=ray", "filter.judges=[]", "shards.images_per_shard=40")


@dataclass(frozen=True, slots=True)
class Store:
    """A server, what befalls requests to it, and the environment of its users."""

    environment: Mapping[str, str]
    faults: Faults
    files: s3fs.S3FileSystem


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    faults = Faults()
    server = PrivateServer(tmp_path_factory.mktemp("prefect"))
    with (
        ExitStack() as ending,
        serving(KEYS) as direct,
        failing(direct["AWS_ENDPOINT_URL"], faults) as url,
    ):
        ending.callback(server.stop)
        plain = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        plain["PREFECT_API_URL"] = server.wait()
        cache = str(tmp_path_factory.mktemp("cache"))
        yield Store(
            {**plain, **direct, "AWS_ENDPOINT_URL": url, "DISCL_CACHE": cache},
            faults,
            s3fs.S3FileSystem(
                key=KEYS["AWS_ACCESS_KEY_ID"],
                secret=KEYS["AWS_SECRET_ACCESS_KEY"],
                endpoint_url=direct["AWS_ENDPOINT_URL"],
                use_listings_cache=False,
            ),
        )


def discl(store: Store, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=dict(store.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def done(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output + errors
    return output


@pytest.mark.timeout(TIMEOUT)
def test_a_run_on_a_store_that_fails_and_a_driver_that_dies(store: Store, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_data(*CHANGES)))
    local, url = RunStore(tmp_path / "local"), f"s3://{BUCKET}/runs/x"
    store.faults.shares = dict(FAULTS)
    first = discl(store, "generate", str(config), "--output", url)
    shards = f"{BUCKET}/runs/x/shards"
    deadline = time.monotonic() + TIMEOUT
    while not store.files.glob(f"{shards}/*.parquet"):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    store.files.rm_file(f"{BUCKET}/runs/x/run.lock")  # or wait until it counts as dead
    reference = discl(store, "generate", str(config), "-w", "local", "--output", str(local.root))
    before = {name: store.files.info(name)["LastModified"] for name in store.files.find(shards)}
    done(discl(store, "generate", str(config), "--output", url))
    done(reference)

    assert store.faults.done["error"] > 0
    store.faults.shares = {}
    for folder in (local.real, local.generated):
        for path in sorted(folder.glob("*.tar")):
            kept = store.files.cat_file(f"{BUCKET}/runs/x/{path.relative_to(local.root)}")
            assert kept == path.read_bytes()
    (tmp_path / "manifest.parquet").write_bytes(
        store.files.cat_file(f"{BUCKET}/runs/x/manifest.parquet")
    )
    assert read_manifest(tmp_path / "manifest.parquet").equals(read_manifest(local.manifest))
    whole = [name for name in before if name.endswith(".parquet")]
    assert all(store.files.info(name)["LastModified"] == before[name] for name in whole)

    verified = json.loads(done(discl(store, "verify", url, "--json")))
    assert verified["clean"], verified
    assert verified["images"] == read_manifest(local.manifest).num_rows
    assert not store.files.exists(f"{BUCKET}/runs/x/run.lock")
    for output in (url, str(local.root)):
        assert "finished" in done(discl(store, "verify", output))
    _stream(store, local)


def _stream(store: Store, local: RunStore) -> None:
    """Stock webdataset reads the shards by URL, over HTTP, every image once."""
    endpoint = store.environment["AWS_ENDPOINT_URL"]
    names = sorted(path.name for path in local.generated.glob("*.tar"))
    signed = [store.files.sign(f"{BUCKET}/runs/x/shards/{name}") for name in names]
    assert all(url.startswith("http") for url in signed), endpoint
    urls = [f"pipe:curl -s -L '{url}'" for url in signed]
    found = [sample["__key__"] for sample in wds.WebDataset(urls, shardshuffle=False)]
    rows = read_manifest(local.manifest).to_pylist()
    assert sorted(found) == sorted(row["key"] for row in rows if row["member"])


CODE = """
import secrets, sys
from benchmarks.peak import peak_bytes
from generators.places import place
from infra.storage.atomic import replacing
from infra.storage.files import file_sha256
where, part = place(sys.argv[1]), secrets.token_bytes(2**20)
with replacing(where) as stream:
    stream.write(part)
before = peak_bytes()
with replacing(where) as stream:
    for _ in range(150):
        stream.write(part)
file_sha256(where)
print((peak_bytes() - before) // 2**20)
"""


def test_a_large_shard_is_uploaded_and_hashed_in_little_memory(store: Store) -> None:
    store.faults.shares = {"error": 0.05, "cut_request": 0.05}
    command = [sys.executable, "-c", CODE, f"s3://{BUCKET}/large.tar"]
    environment = dict(store.environment)
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    store.faults.shares = {}
    assert int(found.stdout) < 110, found.stdout  # MiB, of 150 MiB
    assert store.files.size(f"{BUCKET}/large.tar") == 150 * 2**20
    assert store.files.list_multipart_uploads(BUCKET) == []


def test_a_store_that_is_gone_ends_the_work_with_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generators.places.ATTEMPTS", 1)
    for name in (*KEYS, "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, store.environment[name])
    store.faults.down = True
    found = CliRunner().invoke(app, ["verify", f"s3://{BUCKET}/runs/x"])
    store.faults.down = False
    assert found.exit_code == 1, found.output
    assert f"s3://{BUCKET}/runs/x" in found.stderr.replace("\n", "")
