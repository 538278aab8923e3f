"""Trains a classifier on the shards of a run: stock webdataset, a plain PyTorch loop.

    python examples/webdataset_pytorch.py runs/demo
    python examples/webdataset_pytorch.py s3://bucket/runs/demo --epochs 3 --loaders 2

Reads real training images and the synthetic ones that the judges accepted: shards hold the refused
ones, too, and only the manifest tells them apart. fsspec opens URLs, no shell command is built.
"""

import argparse
import io
import json
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow.parquet as pq
import timm
import torch
import webdataset as wds
from PIL import Image
from torchvision.transforms.functional import to_tensor

for protocol in ("s3", "gs"):  # webdataset calls command line tools for these
    wds.gopen_schemes[protocol] = lambda url, mode="rb", bufsize=8192: fsspec.open(url, mode).open()


def accepted(run: str) -> tuple[list[str], set[str]]:
    """Tars and keys of the synthetic images that the judges accepted."""
    with fsspec.open(f"{run}/manifest.parquet") as file:
        rows = pq.ParquetFile(file).read(columns=["key", "shard", "status"]).to_pylist()
    kept = [row for row in rows if row["status"] == "ok"]
    tars = sorted({f"{run}/shards/{row['shard']}.tar" for row in kept})
    return tars, {row["key"] for row in kept}


def real(run: str) -> tuple[list[str], list[str]]:
    """Tars of the real training images, and the names of the classes."""
    with fsspec.open(f"{run}/real/_info.json") as file:
        info = json.load(file)
    files = info["splits"]["train"]["filenames"]
    return [f"{run}/real/{name}" for name in files], info["class_names"]


def samples(tars: list[str], keys: set[str] | None, seed: int) -> Any:
    """(pixels, label) of all samples, or of those with these keys, shuffled anew each epoch."""
    data = wds.WebDataset(tars, shardshuffle=len(tars), seed=seed, empty_check=False)
    if keys is not None:
        data = data.select(lambda sample: sample["__key__"] in keys)
    return data.shuffle(1000, seed=seed).to_tuple("png;jpg", "cls").map_tuple(pixels, int)


def pixels(data: bytes) -> torch.Tensor:
    """(3, H, W) in [0, 1]."""
    return to_tensor(Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).convert("RGB"))


def batches(run: str, seed: int, loaders: int) -> Iterator[list[torch.Tensor]]:
    """One epoch over real and accepted images."""
    (tars, keys), (real_tars, _) = accepted(run), real(run)
    for data in (samples(real_tars, None, seed), samples(tars, keys, seed)):
        yield from torch.utils.data.DataLoader(data, batch_size=32, num_workers=loaders)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder or URL of a finished run")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--loaders", type=int, default=0)
    args = parser.parse_args()
    model = timm.create_model("test_resnet", num_classes=len(real(args.run)[1]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(args.epochs):
        seen, total = 0, 0.0
        for inputs, labels in batches(args.run, epoch, args.loaders):
            loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen, total = seen + len(labels), total + loss.item() * len(labels)
        print(f"epoch {epoch}: {seen} images, loss {total / seen:.3f}")
