from pathlib import Path

import pytest

from tests.infra.jobs.world import write_images


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: across 12, rare 4, upright 10 images of 8x8. Read only."""
    folder = tmp_path_factory.mktemp("cli") / "images"
    write_images(folder)
    return folder
