"""A run small enough for tests: the digits preset with fewer of everything."""

from pathlib import Path
from typing import Any

from infra.config import RunConfig
from infra.config.load import override, read_preset, validate
from infra.storage.runs import RunStore

CHANGES = (
    "generation.levels=[0, 40, 100]",
    "generation.target={per_class: 8}",
    "generation.num_inference_steps=5",
    "generation.batch_size=16",
    "shards.images_per_shard=20",
    "training.epochs=4",
    "training.updates_per_epoch=4",
    "training.seeds=2",
    "compare={mixed: {schedule: mixed}}",
    "workers.threads=1",
)


def tiny_data(*changes: str) -> dict[str, Any]:
    """Plain data of the tiny config."""
    return override(read_preset("digits"), [*CHANGES, *changes])


def tiny_config(*changes: str) -> RunConfig:
    """The tiny config, changed by `key.path=value` assignments."""
    return validate(RunConfig, tiny_data("workers.kind=local", *changes))


def shard_bytes(store: RunStore) -> dict[Path, bytes]:
    """All shard files of a run, real and synthetic."""
    return {
        path.relative_to(store.root): path.read_bytes()
        for folder in (store.real, store.generated)
        for path in sorted(folder.iterdir())
        if path.suffix in {".tar", ".parquet"}
    }
