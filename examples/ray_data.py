"""Reads the accepted images of a run with Ray Data, decoded, in batches for training or inference.

    python examples/ray_data.py runs/demo
    python examples/ray_data.py s3://bucket/runs/demo

Stock `read_webdataset`; the manifest says which images the judges accepted. On a cluster (set
`RAY_ADDRESS`) every node reads its own part, so give a URL or a folder that all nodes see.
"""

import argparse

import fsspec
import numpy as np
import pyarrow.parquet as pq
import ray


def accepted_images(run: str) -> ray.data.Dataset:
    """Rows of `__key__`, `cls`, `json` and `png` or `jpg` (uint8 pixels), refused ones left out."""
    files, root = fsspec.core.url_to_fs(run)
    with files.open(f"{root}/manifest.parquet") as file:
        rows = pq.ParquetFile(file).read(columns=["key", "shard", "status"]).to_pylist()
    keys = {row["key"] for row in rows if row["status"] == "ok"}
    tars = sorted({f"{root}/shards/{row['shard']}.tar" for row in rows if row["status"] == "ok"})
    data = ray.data.read_webdataset(tars, filesystem=files)
    return data.filter(lambda row: row["__key__"] in keys)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder or URL of a finished run")
    run = parser.parse_args().run
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    seen, ink = 0, 0.0
    for batch in accepted_images(run).iter_batches(batch_size=32):
        images = batch["png"] if "png" in batch else batch["jpg"]
        seen, ink = seen + len(images), ink + float(np.stack(list(images)).mean()) * len(images)
    print(f"{seen} images, mean value {ink / max(seen, 1):.1f}")
