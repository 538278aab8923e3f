"""Test, validation, long-tailed and outside images of CIFAR-10, from one Parquet file.

Of each class, ordered by path and shuffled by seed 0: 1,000 test images, 200 for validation, and
of the 3,800 that are left the first n_c for the long tail. What no tail uses is outside knowledge.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TEST, VAL = 1000, 200
IMBALANCES = (100, 50)
NUM_CLASSES = 10


def write_splits(source: Path, classes: Path, folder: Path) -> dict[str, int]:
    """Writes `test`, `val`, `lt100`, `lt50` and `outside` as Parquet files; images in each.

    Labels become names: the largest class needs all its images, and is not among the outside ones.
    """
    table, names = pq.read_table(source), classes.read_text().split()
    order = pc.sort_indices(pc.struct_field(table["image"], "path"))
    table = table.take(order)
    labels = table["label"].to_numpy()
    parts: dict[str, list[np.ndarray]] = {}
    for label in range(NUM_CLASSES):
        rows = np.random.default_rng([0, label]).permutation(np.flatnonzero(labels == label))
        parts.setdefault("test", []).append(rows[:TEST])
        parts.setdefault("val", []).append(rows[TEST : TEST + VAL])
        rest = rows[TEST + VAL :]
        counts = {factor: tail_count(len(rest), factor, label) for factor in IMBALANCES}
        for factor, count in counts.items():
            parts.setdefault(f"lt{factor}", []).append(rest[:count])
        parts.setdefault("outside", []).append(rest[max(counts.values()) :])
    named = pa.array([names[label] for label in labels.tolist()])
    table = table.set_column(table.schema.get_field_index("label"), "label", named)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, members in parts.items():
        chosen = table.take(pa.array(np.sort(np.concatenate(members))))
        pq.write_table(chosen, folder / f"{name}.parquet", row_group_size=1000)
        found[name] = len(chosen)
    return found


def tail_count(largest: int, imbalance: int, label: int) -> int:
    """Images of a class of the exponential profile (Cao et al. 2019)."""
    return int(largest * imbalance ** (-label / (NUM_CLASSES - 1)))
