"""Events of a run, by which other deployments are started: what is new, and where it is.

They hold counts, names and the output, never images, configs or secrets.
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from prefect.events import emit_event

from infra.storage.runs import RunStore
from infra.storage.shards import file_sha256

MANIFEST_COMMITTED: Final = "discl.manifest.committed"
SHARDS_FINISHED: Final = "discl.shards.finished"


def manifest_committed(store: RunStore, rows: pa.Table, version: int | None = None) -> None:
    """A manifest has been written.

    Args:
        store: of the run.
        rows: of the manifest.
        version: its number, where versions are kept.
    """
    counts = pc.value_counts(rows.column("status")).to_pylist()
    payload: dict[str, Any] = {
        "images": {item["values"]: item["counts"] for item in counts},
        "sha256": file_sha256(store.manifest),
        "version": version,
    }
    _emit(MANIFEST_COMMITTED, store, payload)


def shards_finished(store: RunStore, made: list[dict[str, Any]]) -> None:
    """A group of shards is complete."""
    refs = [shard["ref"] for shard in made]
    payload = {
        "shards": [ref["name"] for ref in refs],
        "images": sum(ref["num_samples"] for ref in refs),
    }
    _emit(SHARDS_FINISHED, store, payload)


def _emit(name: str, store: RunStore, payload: dict[str, Any]) -> None:
    output = str(store.root)
    resource = {
        "prefect.resource.id": f"discl.output.{output}",
        "prefect.resource.name": store.root.name,
    }
    emit_event(event=name, resource=resource, payload={"output": output, **payload})
