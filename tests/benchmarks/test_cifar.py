"""The splits of the CIFAR study never meet; its distance is that of Gaussians."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.cifar_parts import splits
from benchmarks.cifar_parts.quality import frechet


def test_no_image_is_in_two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "TEST", 3)
    monkeypatch.setattr(splits, "VAL", 2)
    paths = [f"{label}-{number:02d}.png" for label in range(10) for number in range(25)]
    cells = [{"bytes": name.encode(), "path": name} for name in paths]
    labels = [int(name[0]) for name in paths]
    pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "all.parquet")
    names = "abcdefghij"
    (tmp_path / "classes.txt").write_text("\n".join(names))
    found = splits.write_splits(tmp_path / "all.parquet", tmp_path / "classes.txt", tmp_path)
    tables = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in found}
    images = {
        name: {cell["path"] for cell in table["image"].to_pylist()}
        for name, table in tables.items()
    }
    assert {name: len(members) for name, members in images.items()} == found
    assert images["lt100"] < images["lt50"]
    apart = ("test", "val", "lt50", "outside")
    assert all(not images[a] & images[b] for a, b in combinations(apart, 2))
    assert set.union(*images.values()) == set(paths)
    assert (found["test"], found["val"]) == (30, 20)
    counts = [tables["lt100"]["label"].to_pylist().count(name) for name in names]
    assert counts[0] == 20
    assert counts[-1] == int(20 / 100) == 0
    assert counts == sorted(counts, reverse=True)
    assert "a" not in tables["outside"]["label"].to_pylist()


def test_frechet_distance_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(4000, 3))
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)
    # a shift counts squared; a standard deviation of 3 for 1 counts (3 - 1) ** 2 in each direction
    assert frechet(one, one + np.array([1.0, 2.0, 0.0])) == pytest.approx(5, abs=1e-6)
    centred = one - one.mean(0)
    trace = np.trace(np.cov(one.T))
    assert frechet(centred, 3 * centred) == pytest.approx(4 * trace, rel=1e-6)
