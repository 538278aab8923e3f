"""Presets of papers: valid, and on listings of the right counts they plan what papers made."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curriculum.profiles.exponential import Exponential
from curriculum.profiles.pareto import Pareto
from infra.config import RunConfig, load_config
from infra.jobs.dataset import Dataset, select
from infra.jobs.planning import hard_images, plan_generation


def write_listing(folder: Path, counts: list[int]) -> list[str]:
    """ImageNet-LT's layout with these training images a class; the first images exist."""
    (folder / "images").mkdir()
    lines = [f"images/{label}_{n}.png {label}" for label, c in enumerate(counts) for n in range(c)]
    (folder / "train.txt").write_text("\n".join(lines))
    held = [f"images/t{label}.png {label}" for label in range(len(counts))]
    (folder / "test.txt").write_text("\n".join(held))
    Image.new("RGB", (4, 4)).save(folder / "images" / "one.png")
    for line in [*lines[:25], *held[:25]]:
        os.link(folder / "images" / "one.png", folder / line.split()[0])
    (folder / "classes.txt").write_text("\n".join(f"class {n}" for n in range(len(counts))))
    return [
        f"data.source.path={folder}/train.txt",
        "data.source.val=null",
        f"data.source.test={folder}/test.txt",
        f"data.source.root={folder}",
        f"data.source.classes={folder}/classes.txt",
    ]


def planned(config: RunConfig) -> tuple[int, int]:
    """Hard images, and images that are asked for."""
    chosen = select(config.data)
    labels = chosen.images.labels[chosen.split["train"]]
    rows = pa.table(
        {
            "key": [f"{n:016x}" for n in range(len(labels))],
            "sha256": ["0" * 64] * len(labels),
            "label": labels,
            "split": ["train"] * len(labels),
            "status": ["ok"] * len(labels),
        }
    )
    dataset = Dataset(
        rows=rows,
        class_names=chosen.images.class_names,
        many_above=config.data.many_above,
        few_below=config.data.few_below,
    )
    hard = hard_images(config, dataset, None)
    return hard.rows.num_rows, len(plan_generation(config, dataset, hard, "0" * 32))


def test_imagenet_lt_asks_for_what_discl_made(tmp_path: Path) -> None:
    counts = Pareto().counts(1000, 1280).tolist()
    config = load_config(None, "imagenet_lt", write_listing(tmp_path, counts))
    hard, asked = planned(config)
    # DisCL: 1,643 hard images of 136 classes and 51,917 images; the profile has 143 such classes.
    assert hard == pytest.approx(1643, rel=0.1)
    assert asked == 4 * 8 * hard
    # 60 epochs with the curriculum, 5 without
    assert config.training.epochs * 8 // 100 == 5


@pytest.mark.parametrize(
    ("name", "classes", "tail"), [("cifar10_lt", 10, 4), ("cifar100_lt", 100, 30)]
)
def test_cifar_lt_counts_its_tail_as_published(
    name: str, classes: int, tail: int, tmp_path: Path
) -> None:
    full = {10: 5000, 100: 500}[classes]
    counts = Exponential(imbalance_factor=100).counts(classes, full)
    listing = write_listing(tmp_path, [full] * classes)
    source = f"data.source={{name: listing, path: {tmp_path}/train.txt}}"
    hard, asked = planned(load_config(None, name, [source, *listing]))
    few = counts[counts < {10: 300, 100: 20}[classes]]
    assert len(few) == tail
    assert hard == int(few.sum())
    assert asked == 3 * 8 * hard


def test_inaturalist_takes_each_hard_image_once_a_level(tmp_path: Path) -> None:
    counts = np.r_[np.full(20, 900), np.full(60, 40), np.full(120, 7)].tolist()
    config = load_config(None, "inaturalist_2018", write_listing(tmp_path, counts))
    assert planned(config) == (840, 4 * 840)
