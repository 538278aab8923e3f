"""How fast the trainer is beside a plain PyTorch loop over tensors in memory, same network.

`python -m benchmarks.trainer` (5 minutes, alone on the machine) writes `results/trainer.json`. Ours
has 32x32 PNGs in shards on disk: read by two loader processes batch by batch, or once into memory,
as a run does with data of that size. All train on one thread.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from curriculum.loader import ImageTable
from curriculum.train_spec import TrainSpec, make_optimizer
from curriculum.trainer import Training
from generators.classifiers import create_classifier
from generators.registry import MethodSpec
from infra.config.schema import DataConfig, ShardsConfig
from infra.jobs.dataset import ingest_shards, open_dataset, select
from infra.jobs.images import PixelFormat, StoredImages
from infra.jobs.ingest import ingest_shard
from infra.machine import describe_machine, describe_versions
from infra.storage.manifest import commit_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import read_rows
from infra.workers.base import WorkerContext
from infra.workers.local import LocalWorker

OUTPUT = Path(__file__).parent / "results" / "trainer.json"
IMAGES, UPDATES, BATCH = 6000, 60, 64
REPEATS = 5


def main() -> None:
    """Measures both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["test_resnet", "resnet10t"])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table = stored_images(Path(folder))
        ways = {"from_disk": (table, 2), "in_memory": (table.in_memory(), 0)}
        found = {
            model: {way: measure(model, *how) for way, how in ways.items()}
            for model in asked.models
        }
    about = {"machine": describe_machine(), "versions": describe_versions(), "models": found}
    asked.output.write_text(json.dumps(about, indent=1) + "\n")
    for model, numbers in found.items():
        for way, told in numbers.items():
            print(model, way, json.dumps(told))


def stored_images(folder: Path) -> StoredImages:
    """Smooth noise of ten classes, ingested as a run does it: PNGs in tars."""
    rng, cells = np.random.default_rng(0), []
    for number in range(IMAGES):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        small.resize((32, 32), Image.Resampling.BICUBIC).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": f"{number}.png"})
    labels = (np.arange(IMAGES) % 10).tolist()
    pq.write_table(pa.table({"image": cells, "label": labels}), folder / "images.parquet")
    source = MethodSpec(name="parquet", params={"path": str(folder / "images.parquet")})
    data, store = DataConfig(source=source, image_size=32), RunStore(folder / "run")
    worker = LocalWorker(WorkerContext(device="cpu", threads=1))
    parts = ingest_shards(data, ShardsConfig(), select(data), store)
    for part in parts:
        worker.run(ingest_shard, part, on_progress=lambda _: None)
    tables = (read_rows(store.real, part.name) for part in parts)
    commit_manifest(store.real_manifest, tables, order=("split", "label", "key"))
    rows = open_dataset(data, store.real_manifest).split("train")
    form = PixelFormat(channels=3, image_size=32)
    return StoredImages(rows, None, (store.real, store.generated), form, frozenset())


def measure(model: str, table: ImageTable, loader_workers: int) -> dict[str, Any]:
    """Medians of interleaved repetitions."""
    spec = TrainSpec(
        model=model,
        image_size=(32, 32),
        channels=3,
        num_classes=10,
        epochs=REPEATS + 1,
        updates_per_epoch=UPDATES,
        batch_size=BATCH,
        num_loader_workers=loader_workers,
    )
    images = table.read(np.arange(len(table.rows)))
    labels = torch.from_numpy(table.rows.labels)
    training = Training(spec, table)
    waited = watched(training)
    reports, plain = training.run(), PlainLoop(spec, images, labels)
    next(reports)  # starts the loaders
    plain.epoch()
    ours, theirs, waits = [], [], []
    for _ in range(REPEATS):
        waited[0] = 0.0
        started = time.perf_counter()
        next(reports)
        ours.append(UPDATES / (time.perf_counter() - started))
        waits.append(waited[0] * ours[-1] / UPDATES)
        started = time.perf_counter()
        plain.epoch()
        theirs.append(UPDATES / (time.perf_counter() - started))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "updates_per_second": statistics.median(ours),
        "plain_updates_per_second": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "data_wait_share": statistics.median(waits),
    }


def watched(training: Training) -> list[float]:
    """A cell that adds up the seconds the trainer waits for batches."""
    waited, read = [0.0], training._loader.batches

    def batches(indices: Any) -> Iterator[Any]:
        steps = read(indices)
        while True:
            started = time.perf_counter()
            try:
                batch = next(steps)
            except StopIteration:
                return
            finally:
                waited[0] += time.perf_counter() - started
            yield batch

    training._loader.batches = batches  # type: ignore[method-assign]
    return waited


class PlainLoop:
    """What one would write by hand."""

    def __init__(self, spec: TrainSpec, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._images, self._labels = images, labels
        made = create_classifier(spec.model, 10, 3, image_size=(32, 32), seed=0)
        self._model = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer, _, _ = make_optimizer(spec, self._model)
        self._model.train()

    def epoch(self) -> None:
        """As many updates as ours."""
        for rows in torch.randint(len(self._images), (UPDATES, BATCH)):
            inputs = (self._images[rows].float() / 255 - 0.5) / 0.5
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(self._model(inputs), self._labels[rows])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()


if __name__ == "__main__":
    main()
