import numpy as np
from sklearn.datasets import load_digits

from curriculum.data.decode import decode
from curriculum.sources.digits import Digits


def test_pixels_and_labels_are_those_of_the_library():
    images, reference = Digits().open(), load_digits()
    assert images.splits is None
    assert images.class_names == tuple("0123456789")
    np.testing.assert_array_equal(images.labels, reference.target)
    for row in (0, 17, 1796):
        pixels = decode(images.read(row), 1)[..., 0]
        assert pixels.shape == (8, 8)
        np.testing.assert_array_equal(np.rint(pixels / 255 * 16), reference.images[row])


def test_the_seventeen_values():
    values = np.unique(Digits().open().pixels)
    assert values.tolist() == [round(count * 255 / 16) for count in range(17)]
