"""An S3 server on loopback whose connections can be cut."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import s3fs

from tests.support.object_store import BUCKET, Faults, failing, serving

KEYS = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectStore:
    """Where runs write by URL.

    Attributes:
        environment: that leads drivers and workers to it.
        faults: what befalls requests.
    """

    environment: dict[str, str]
    faults: Faults

    def url(self, name: str) -> str:
        """Of a run."""
        return f"s3://{BUCKET}/{name}"

    def cut(self, seconds: float) -> None:
        """Answers nobody for a while."""
        self.faults.down = True
        time.sleep(seconds)
        self.faults.down = False

    def fetch(self, name: str, folder: Path) -> None:
        """Copies a run to a disk."""
        files = s3fs.S3FileSystem(
            key=KEYS["AWS_ACCESS_KEY_ID"],
            secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            skip_instance_cache=True,
        )
        root = f"{BUCKET}/{name}/"
        for key in files.find(root):
            path = folder / key.removeprefix(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.cat_file(key))


@contextmanager
def open_store() -> Iterator[ObjectStore]:
    """Starts it; ends it with the block."""
    faults = Faults()
    with serving(KEYS) as environment, failing(environment["AWS_ENDPOINT_URL"], faults) as url:
        yield ObjectStore(environment={**environment, "AWS_ENDPOINT_URL": url}, faults=faults)
