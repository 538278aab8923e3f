"""What rounds share: a Prefect server, a Ray cluster of several nodes, a small disk, a subject."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos_parts.cluster import RayCluster
from benchmarks.chaos_parts.command import Command, Order
from benchmarks.chaos_parts.prefect_server import PrefectServer
from benchmarks.chaos_parts.store import ObjectStore, open_store
from benchmarks.chaos_parts.subject import write_subject

DISK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """Everything rounds share.

    Attributes:
        folder: for everything that is written.
        config: of every run.
        prefect: server.
        cluster: of Ray.
        store: an object store that can be cut.
        disk: a small file system; None where this user may not mount one (`unshare -rm` lets it).
    """

    folder: Path
    config: Path
    prefect: PrefectServer
    cluster: RayCluster
    store: ObjectStore
    disk: Path | None

    def order(self, output: Path, url: str = "") -> Order:
        """`discl generate` into a folder or URL, with this server and this cluster."""
        environment = {
            "PREFECT_API_URL": self.prefect.url,
            "PREFECT_HOME": str(self.folder / "client"),
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(output.with_name(f"{output.name}-results")),
            "NO_PROXY": "127.0.0.1",
        }
        return Order(
            config=self.config,
            output=url or output,
            folder=self.folder,
            environment=environment,
            options=("--set", f"workers.address={self.cluster.address}"),
        )

    def start(self, output: Path, url: str = "") -> Command:
        """Starts it."""
        return Command(self.order(output, url))

    def repair(self) -> None:
        """Brings back what a round has killed."""
        self.prefect.start()
        self.cluster.repair()
        self.prefect.wait()


@contextmanager
def open_ground(folder: Path) -> Iterator[Ground]:
    """Starts everything; ends it with the block."""
    with ExitStack() as stack:
        store = stack.enter_context(open_store())
        os.environ.update(store.environment)  # the cluster's workers have it from here
        prefect = PrefectServer(folder / "prefect")
        stack.callback(prefect.stop)
        cluster = RayCluster()
        stack.callback(cluster.close)
        disk = _mount(folder / "disk", stack)
        prefect.wait()
        yield Ground(
            folder=folder,
            config=write_subject(folder),
            prefect=prefect,
            cluster=cluster,
            store=store,
            disk=disk,
        )


def _mount(disk: Path, stack: ExitStack) -> Path | None:
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return None
    except FileNotFoundError:
        return None
    unmount = ["umount", "--lazy", str(disk)]
    stack.callback(subprocess.run, unmount, capture_output=True, check=False)
    return disk
