"""The splits of the CIFAR study never meet; its distance is that of Gaussians."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks.cifar_parts import frontier, gains, plateau, splits
from benchmarks.cifar_parts.quality import classifiers, frechet
from benchmarks.cifar_parts.studies import STUDIES
from generators.errors import DataError


def written(data: str, schedule: str, loss: str, seed: int, percent: float) -> dict[str, Any]:
    """A cell of a study on real images, equally good everywhere."""
    told = {"data": data, "schedule": schedule, "loss": loss, "seed": seed}
    told |= dict.fromkeys(("many", "medium", "few", "all"), percent)
    return {**told, "generator": "", "model_evaluations": 0, "seconds": 1}


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


def test_subtracting_the_prior_undoes_what_was_added() -> None:
    labels, counts = torch.tensor([0, 1, 2] * 4), torch.tensor([80, 15, 5])
    biased = 2 * torch.eye(3)[labels] + (counts / counts.sum()).log()
    found = frontier.curve(biased, labels, counts, few_below=10)
    shifts = frontier.SHIFTS.tolist()
    assert found[shifts.index(1.0)].tolist() == [100, 100]
    # as it was trained, 2 + log(0.05) stands against log(0.8): the rarest class is lost
    assert found[shifts.index(0.0)].tolist() == pytest.approx([200 / 3, 0])
    # the classes change places where 2 + s' log(0.05) = s' log(0.8), s' = 1 - shift: at 0.279
    assert found[shifts.index(0.25), 1] == 0
    assert found[shifts.index(0.3), 1] == 100


def test_moving_along_the_curve_is_no_gain_and_lying_above_it_is() -> None:
    shifts = frontier.SHIFTS
    baseline = np.stack([50 - 20 * shifts**2, 40 + 30 * shifts], 1)
    later = shifts - 0.3  # the same curve, shifted less as it was trained
    moved = np.stack([50 - 20 * later**2, 40 + 30 * later], 1)
    assert frontier.gains(moved, baseline) == pytest.approx((0, 0), abs=0.1)
    every, few = frontier.gains(moved + np.array([3, 0]), baseline)
    assert every == pytest.approx(3, abs=0.1)
    assert few == pytest.approx(30 * (3 / 20) ** 0.5, abs=0.2)
    assert np.isnan(frontier.gains(baseline - np.array([3, 0]), baseline)[1])


def test_the_plateau_has_the_arms_of_enough_lengths() -> None:
    def cell(name: str, schedule: str, seed: int, percent: float) -> dict[str, Any]:
        return written(STUDIES[name].data, schedule, "cross_entropy", seed, percent)

    studies = {epochs: names[-1] for epochs, names in plateau.LENGTHS.items()}
    cells = [
        cell(name, "baseline", seed, epochs + seed)
        for epochs, name in studies.items()
        for seed in range(3)
    ]
    other = [name for names in plateau.LENGTHS.values() for name in names[:-1]]
    cells += [cell(name, "baseline", seed, 99) for name in other for seed in range(3)]
    cells += [cell(other[0], "cuda", seed, 20) for seed in range(3)]
    ((arm, lengths),) = plateau.curves(cells).items()
    assert arm == "baseline, cross_entropy"
    means = {epochs: row.estimates["few"].mean for epochs, row in lengths.items()}
    assert means == {epochs: epochs + 1 for epochs in studies}
    assert "| baseline | cross_entropy | 40 | 41.0" in plateau.table({arm: lengths})


def test_gains_are_over_the_same_loss_of_the_same_study(tmp_path: Path) -> None:
    cells = [
        written(data, schedule, loss, seed, base + more + seed * spread)
        for data, base in (("b", 30), ("a", 50))
        for loss, gain in (("cross_entropy", 20), ("balanced_softmax", 5))
        for schedule, more, spread in (("baseline", 0, 0), ("curriculum", gain, 1))
        for seed in range(3)
    ]
    found = {loss: gains.gains(cells, loss) for loss in gains.LOSSES}
    shown = {
        (loss, study): [(row.data, row.differences["few"].mean) for row in rows]
        for loss, studies in found.items()
        for study, rows in studies.items()
    }
    assert shown == {
        ("balanced_softmax", "a"): [("curriculum", 6)],
        ("balanced_softmax", "b"): [("curriculum", 6)],
        ("cross_entropy", "a"): [("curriculum", 21)],
        ("cross_entropy", "b"): [("curriculum", 21)],
    }
    assert list(found["cross_entropy"]) == ["a", "b"]
    gains.draw(found, tmp_path / "gains.png")
    assert Image.open(tmp_path / "gains.png").size[0] > 1000


def test_classifiers_that_the_config_does_not_have_any_more_are_left_out(tmp_path: Path) -> None:
    config = {
        "name": "long",
        "data": {"source": "digits", "image_size": 8, "channels": 1},
        "training": {"model": "small_cnn", "seeds": 2},
        "curriculum": {"schedule": "repeat", "tail_share": 0.5},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))

    def trained(arm: str, seed: int, content: str) -> None:
        folder = tmp_path / "training" / f"{arm}-seed{seed}-{content}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"arm": arm, "seed": seed}))
        (folder / "classifier.safetensors").touch()

    for arm, seed in (("baseline", 0), ("baseline", 1), ("baseline", 2), ("cuda", 0)):
        trained(arm, seed, "a")
    found = classifiers(tmp_path)
    assert list(found) == [("baseline", 0), ("baseline", 1)]
    assert found["baseline", 1].parent.name == "baseline-seed1-a"
    trained("baseline", 1, "b")
    with pytest.raises(DataError, match=r"baseline-seed1-b and .*baseline-seed1-a"):
        classifiers(tmp_path)
