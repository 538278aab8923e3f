"""Writes the accepted images of a run as a data set of their own for timm's `train.py`.

    python examples/timm_train.py runs/demo accepted
    python examples/timm_train.py s3://bucket/runs/demo accepted

timm's `wds/` reader takes every image of a tar, so refused ones are left out by a copy: real
training and test images, and the synthetic ones that the judges accepted, in tars with an
`_info.json`. The command for `train.py`, which is in timm's repository and not in its wheel, is
printed. Shards without judges need no copy: `--dataset wds/train --data-dir runs/demo/shards`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import webdataset as wds

COMMAND = (
    "python train.py --data-dir {folder} --dataset wds/digits --train-split train --val-split test "
    "--num-classes {classes} --model test_resnet --input-size 3 32 32 --batch-size 32 --epochs 20"
)


def copy(run: str, folder: Path) -> dict[str, Any]:
    """Writes `train.tar`, `test.tar` and `_info.json`; returns the latter."""
    folder.mkdir(parents=True)
    tables = {}
    for name in ("manifest", "real"):
        with fsspec.open(f"{run}/{name}.parquet") as file:
            tables[name] = pq.ParquetFile(file).read().to_pylist()
    real = [{**row, "folder": "real"} for row in tables["real"]]
    made = [{**row, "folder": "shards", "split": "train"} for row in tables["manifest"]]
    splits = {}
    for split in ("train", "test"):
        rows = [row for row in real + made if row["split"] == split and row["status"] == "ok"]
        write(run, rows, folder / f"{split}.tar")
        splits[split] = {
            "name": split,
            "num_samples": len(rows),
            "filenames": [f"{split}.tar"],
            "shard_lengths": [len(rows)],
        }
    info = {"splits": splits, "class_names": names(tables["real"])}
    (folder / "_info.json").write_text(json.dumps(info))
    return info


def write(run: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Copies images from where the manifest says that their bytes are."""
    with wds.TarWriter(str(path), mtime=0) as tar:
        for folder, shard in sorted({(row["folder"], row["shard"]) for row in rows}):
            with fsspec.open(f"{run}/{folder}/{shard}.tar") as file:
                for row in (r for r in rows if (r["folder"], r["shard"]) == (folder, shard)):
                    file.seek(row["offset"])
                    suffix = row["member"].rpartition(".")[2]
                    image = file.read(row["size"])
                    tar.write({"__key__": row["key"], suffix: image, "cls": row["label"]})


def names(rows: list[dict[str, Any]]) -> list[str]:
    """Class names by label."""
    return [name for _, name in sorted({(row["label"], row["class_name"]) for row in rows})]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder or URL of a finished run")
    parser.add_argument("folder", type=Path, help="folder to make")
    args = parser.parse_args()
    info = copy(args.run, args.folder)
    print(COMMAND.format(folder=args.folder, classes=len(info["class_names"])))
