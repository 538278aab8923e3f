from pathlib import Path

import pytest

from tests.infra.jobs.world import World, generate, prepare, write_images


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: across 12, rare 4, upright 10 images of 8x8. Read only."""
    folder = tmp_path_factory.mktemp("world") / "images"
    write_images(folder)
    return folder


@pytest.fixture
def world(image_folder: Path, tmp_path: Path) -> World:
    """Ingested and planned; nothing is made yet."""
    return prepare(image_folder, tmp_path / "run")


@pytest.fixture(scope="session")
def made(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ingested, planned, generated. Read only, but for scores and trainings."""
    found = prepare(image_folder, tmp_path_factory.mktemp("made") / "run")
    generate(found)
    return found
