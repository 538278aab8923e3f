"""Checkpoints to be changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def copy(tiny_sd_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of the tiny Stable Diffusion's folder."""

    def make() -> Path:
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_sd_folder, folder)
        return folder

    return make
