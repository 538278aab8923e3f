"""How many CPUs there are to use."""

import os
from pathlib import Path

import pytest

from infra.workers.base import available_cpus, cpu_quota

INFINITE = (float("inf"), 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000\n", INFINITE), ("150000 100000\n", (150000, 100000)), ("", INFINITE)],
)
def test_quota_of_a_version_2_group(
    tmp_path: Path, text: str, expected: tuple[float, float]
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", INFINITE), ("200000", (200000, 100000))])
def test_quota_of_a_version_1_group(
    tmp_path: Path, quota: str, expected: tuple[float, float]
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == expected


def test_cpus_are_limited_by_affinity_and_by_quota(tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    assert available_cpus(tmp_path) == allowed
    (tmp_path / "cpu.max").write_text("100000 100000")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert available_cpus(tmp_path) == 1  # a tenth of a CPU is a CPU
    (tmp_path / "cpu.max").write_text("99900000 100000")
    assert available_cpus(tmp_path) == allowed
