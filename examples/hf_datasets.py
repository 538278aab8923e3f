"""Streams the accepted images of a run with Hugging Face `datasets`.

    python examples/hf_datasets.py runs/demo
    python examples/hf_datasets.py s3://bucket/runs/demo

The stock `webdataset` builder reads the shards; the manifest says which images the judges accepted.
Needs `pip install datasets`. Nothing is copied to the disk; give `streaming=False` to have that.
"""

import argparse
from collections import Counter

import fsspec
import pyarrow.parquet as pq
from datasets import IterableDataset, load_dataset


def accepted_images(run: str) -> IterableDataset:
    """Samples with `png` (or `jpg`), `cls`, `json` and `__key__`, refused ones left out."""
    with fsspec.open(f"{run}/manifest.parquet") as file:
        rows = pq.ParquetFile(file).read(columns=["key", "shard", "status"]).to_pylist()
    keys = {row["key"] for row in rows if row["status"] == "ok"}
    tars = sorted({f"{run}/shards/{row['shard']}.tar" for row in rows if row["status"] == "ok"})
    data = load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    return data.filter(lambda sample: sample["__key__"] in keys)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder or URL of a finished run")
    run = parser.parse_args().run
    counts = Counter(sample["json"]["class_name"] for sample in accepted_images(run))
    print(
        f"{counts.total()} images:", ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    )
