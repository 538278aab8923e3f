"""The guidance benchmark: its distances on sets that are known, and that no method is left out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.guidance_parts import distances
from benchmarks.guidance_parts.grid import DIFFUSERS, short
from benchmarks.guidance_parts.show import against, table
from benchmarks.guidance_parts.training import shifted
from generators.guidance.diffusers import guider_classes
from generators.registry import names

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "guidance.json"


def cloud(count: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Any:
    return scale * np.random.default_rng(seed).normal(size=(count, 4)) + shift


def test_the_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    same = [
        distances.kernel_distance(cloud(200, seed=i), cloud(200, seed=100 + i)) for i in range(20)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20**0.5
    assert distances.kernel_distance(cloud(200), cloud(200, shift=1.0, seed=1)) > 10 * np.std(same)


def test_precision_and_recall_tell_too_narrow_from_too_wide() -> None:
    real = cloud(400)
    narrow = distances.coverage(real, cloud(400, scale=0.3, seed=1))
    wide = distances.coverage(real, cloud(400, scale=3.0, seed=1))
    same = distances.coverage(real, cloud(400, seed=1))
    assert narrow["precision"] > 0.95 > 0.6 > narrow["recall"]
    assert wide["precision"] < 0.6 < 0.9 < wide["recall"]
    assert same["coverage"] > max(narrow["coverage"], wide["coverage"])
    assert narrow["density"] > same["density"] == pytest.approx(1, abs=0.2)


def test_diversity_is_within_classes_and_similarity_to_the_own_source() -> None:
    one = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    labels = np.array([0, 0, 1, 1])
    assert distances.diversity(one, labels) == pytest.approx(0.5)
    assert distances.similarity(one, one[[0, 0, 2, 3]]) == pytest.approx(0.75)


def test_differences_are_paired_with_cfg_of_the_same_bed() -> None:
    def row(method: str, values: list[float], **more: Any) -> dict[str, Any]:
        base = {"generator": "a", "budget": "equal steps", "parameters": {"guidance_scale": 2.0}}
        return {**base, "method": method, "few_shot": values, **more}

    rows = [
        row("cfg", [90.0, 92.0, 94.0]),
        row("cfg", [10.0, 10.0, 10.0], generator="b"),
        row("auto", [91.0, 93.0, 95.0]),
    ]
    assert against(rows, rows[2]) == "+1.0 [+1.0, +1.0]"
    assert against(rows, rows[0]) == ""


def test_shifts_move_whole_images() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 4] = 1
    moved = shifted(image.repeat(50, 1, 1, 1), torch.Generator().manual_seed(0))
    places = {tuple(one[0].nonzero()[0].tolist()) for one in moved}
    assert places == {(y, x) for y in (3, 4, 5) for x in (3, 4, 5)}


def test_results_name_no_files() -> None:
    given = {"classifier": "/tmp/x/guide.safetensors", "wishes": [{"classifier": "/a/b.c"}]}
    assert short(given) == {"classifier": "guide", "wishes": [{"classifier": "b"}]}


def test_every_guider_of_diffusers_has_a_case() -> None:
    assert set(DIFFUSERS) == set(guider_classes())


def test_the_published_results_have_every_method() -> None:
    rows = json.loads(RESULTS.read_text())["rows"]
    found = {row["method"] for row in rows}
    expected = {*names("guidance")} - {"diffusers"} | {f"diffusers:{name}" for name in DIFFUSERS}
    assert found == expected
    assert table(rows).count("\n| `") == len(rows)
    for row in rows:
        assert row["evaluations_per_image"] > 0
        assert 0 <= row["accuracy"] <= 100


@pytest.mark.slow
def test_the_quick_benchmark_shows_every_method(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.guidance", str(tmp_path), "--quick"]
    command += ["--threads", "1"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=300, capture_output=True)
    rows = json.loads((tmp_path / "guidance.json").read_text())["rows"]
    assert {row["method"].partition(":")[0] for row in rows} == set(names("guidance"))
    assert (tmp_path / "guidance.png").is_file()
