import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def shared_data(name):
    """A file of real data; the test is skipped where it is missing."""
    default = Path(__file__).parents[4] / "shared" / "data"
    path = Path(os.environ.get("DISCL_TEST_DATA", default)) / name
    if not path.exists():
        pytest.skip(f"no {name} in the test data")
    return path


@pytest.fixture
def cifar_parquet():
    return shared_data("cifar10/train.parquet")


@pytest.fixture
def mnist_npz():
    return shared_data("mnist/mnist.npz")


@pytest.fixture
def image_bytes():
    """Makes a flat PNG or JPEG whose gray value tells it from others."""

    def make(value, format="PNG"):
        stream = io.BytesIO()
        Image.fromarray(np.full((6, 5, 3), value, np.uint8)).save(stream, format)
        return stream.getvalue()

    return make


@pytest.fixture
def write_images(tmp_path, image_bytes):
    """Writes images below tmp_path: path to gray value."""

    def write(files):
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            format = "PNG" if path.suffix.lower() == ".png" else "JPEG"
            path.write_bytes(image_bytes(value, format))
        return tmp_path

    return write
