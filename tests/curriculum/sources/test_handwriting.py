import gzip
import struct

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from curriculum.data.decode import decode
from curriculum.sources.handwriting import Handwriting, ink_counts
from generators.errors import ConfigError, DataError, SampleRejected
from generators.registry import MethodSpec, build


def test_a_square_fills_the_image():
    bitmap = np.zeros((28, 28), np.uint8)
    bitmap[3:11, 5:13] = 255
    assert (ink_counts(bitmap) == 16).all()


def test_aspect_is_kept_and_centred():
    bitmap = np.zeros((28, 28), np.uint8)
    bitmap[4:24, 2:7] = 255  # 20 high, 5 wide: scaled to 32 high, 8 wide
    counts = ink_counts(bitmap)
    assert (counts[:, 3:5] == 16).all()
    assert counts.sum() == 16 * 8 * 2


def test_blocks_count_black_pixels():
    bitmap = np.zeros((32, 32), np.uint8)  # 32 x 32 is not scaled
    bitmap[0, 0] = bitmap[31, 31] = 255
    bitmap[5, 9] = bitmap[6, 9] = 97
    bitmap[7, 9] = 96
    counts = ink_counts(bitmap)
    assert counts[1, 2] == 2  # 97 is black, 96 is not
    assert counts.sum() == 4


def test_a_bitmap_without_ink_is_rejected():
    with pytest.raises(SampleRejected, match="no ink"):
        ink_counts(np.zeros((28, 28), np.uint8))


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_train": np.repeat(np.arange(10, dtype=np.uint8), 2),
        "x_test": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }


def test_official_splits_of_the_npz(arrays, tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays)
    images = Handwriting(path=str(tmp_path / "mnist.npz")).open()
    assert images.splits is not None
    assert images.splits.tolist() == ["train"] * 20 + ["test"] * 10
    assert images.labels.tolist() == [*np.repeat(range(10), 2), *range(10)]
    expected = np.rint(ink_counts(arrays["x_test"][1]) * 255 / 16)
    np.testing.assert_array_equal(decode(images.read(21), 1)[..., 0], expected)
    assert images.origin(21) == "mnist#21"


def test_torchvision_files_give_the_same(arrays, tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, name in (("train", "train"), ("test", "t10k")):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        head = struct.pack(">IIII", 0x803, *x.shape)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + x.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, len(y)) + y.tobytes()
        )
    one = Handwriting(path=str(tmp_path / "mnist.npz")).open()
    other = Handwriting(root=str(tmp_path)).open()
    np.testing.assert_array_equal(one.labels, other.labels)
    assert [one.read(row) for row in range(30)] == [other.read(row) for row in range(30)]


def test_missing_and_wrong_files(arrays, tmp_path):
    path = tmp_path / "mnist.npz"
    with pytest.raises(DataError, match=r"cannot read .*mnist.npz"):
        Handwriting(path=str(path)).open()
    path.write_bytes(gzip.compress(b"no npz"))
    with pytest.raises(DataError, match=r"as mnist\.npz"):
        Handwriting(path=str(path)).open()
    np.savez(path, x_train=arrays["x_train"])
    with pytest.raises(DataError, match="has no array"):
        Handwriting(path=str(path)).open()
    np.savez(path, **{**arrays, "y_test": np.arange(9)})
    with pytest.raises(DataError, match="x_test is uint8"):
        Handwriting(path=str(path)).open()
    np.savez(path, **{**arrays, "x_train": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match="allow_pickle"):
        Handwriting(path=str(path)).open()
    with pytest.raises(DataError, match=r"no MNIST in .*download: true"):
        Handwriting(root=str(tmp_path)).open()


@pytest.mark.parametrize("params", [{}, {"path": "a", "root": "b"}])
def test_exactly_one_place(params):
    with pytest.raises(ConfigError, match="either `path`"):
        build("source", MethodSpec(name="handwriting", params=params))


def test_format_is_that_of_the_digits(mnist_npz):
    """A coarse alarm: 0.78 here, 0.23 where digits are only scaled to 8 x 8, without cropping.

    A small network with more images and augmentation reaches 0.95, but takes minutes.
    """
    images = Handwriting(path=str(mnist_npz)).open()
    assert np.bincount(images.labels[images.splits == "train"])[0] == 5923
    rows = np.random.default_rng(0).permutation(60_000)[:2000]
    pixels = np.stack([decode(images.read(row), 1).ravel() for row in rows]) / 255
    digits = load_digits()
    assert abs(pixels.mean() - digits.data.mean() / 16) < 0.02
    classifier = SVC(C=10, gamma=0.3).fit(pixels, images.labels[rows])
    assert classifier.score(digits.data / 16, digits.target) > 0.7
