import pickle
import threading

import numpy as np
import pytest
import torch

from curriculum.loader import EpochLoader, TensorImages
from curriculum.mixture import Rows
from generators.errors import DataError


def make_table(count: int = 50) -> TensorImages:
    """Image i is filled with i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 4, 5)
    return TensorImages(images=images.clone(), rows=Rows.real(np.arange(count) % 7))


ORDER = np.random.default_rng(0).integers(0, 50, 47)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_order_is_the_given_one_for_any_number_of_workers(num_workers: int) -> None:
    loader = EpochLoader(make_table(), 10, num_workers=num_workers)
    for order in (ORDER, ORDER[::-1].copy(), ORDER[:20]):  # workers are kept between epochs
        batches = list(loader.batches(order))
        whole = len(order) // 10 * 10
        assert [tuple(images.shape) for images, *_ in batches] == [(10, 3, 4, 5)] * (whole // 10)
        found = torch.cat([images[:, 0, 0, 0] for images, *_ in batches])
        assert found.tolist() == order[:whole].tolist()
        labels = torch.cat([labels for _, labels, _ in batches])
        assert labels.dtype == torch.int64
        assert labels.tolist() == (order[:whole] % 7).tolist()


def test_workers_end_well_whatever_their_parent_does_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises() -> None:
        raise RuntimeError("what only the parent has")

    monkeypatch.setattr(threading, "_threading_atexits", [raises])
    loader = EpochLoader(make_table(), 10, num_workers=2)
    assert len(list(loader.batches(ORDER))) == 4
    workers = loader._loader._iterator._workers  # type: ignore[union-attr]
    loader._loader._iterator._shutdown_workers()  # type: ignore[union-attr]
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_incomplete_last_batch_can_be_kept() -> None:
    loader = EpochLoader(make_table(), 10, drop_last=False)
    assert [len(labels) for _, labels, _ in loader.batches(ORDER)] == [10, 10, 10, 10, 7]
    assert list(EpochLoader(make_table(), 10).batches(ORDER[:9])) == []


def test_a_batch_is_one_read_and_the_global_random_state_is_left_alone() -> None:
    reads: list[int] = []

    class Counting:
        rows = make_table().rows

        def read(self, indices: np.ndarray) -> torch.Tensor:
            reads.append(len(indices))
            return make_table().read(indices)

    before = torch.random.get_rng_state()
    list(EpochLoader(Counting(), 10).batches(ORDER))
    assert reads == [10] * 4
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tensor_images_hold_a_copy_of_any_table() -> None:
    table = make_table()
    copy = TensorImages.load(table, batch_size=7)
    assert torch.equal(copy.images, table.images)
    read = copy.read(np.array([3, 3, 1]))
    assert read[:, 0, 0, 0].tolist() == [3, 3, 1]
    read.zero_()
    assert copy.images[3].min() == 3
    assert len(pickle.dumps(copy)) < 50_000  # workers and actors get it


def test_tensor_images_refuse_what_is_no_image_table() -> None:
    rows = Rows.real(np.zeros(4, dtype=np.int64))
    with pytest.raises(DataError, match="uint8"):
        TensorImages(images=torch.zeros(4, 1, 2, 2), rows=rows)
    with pytest.raises(DataError, match="3 images, but 4 rows"):
        TensorImages(images=torch.zeros(3, 1, 2, 2, dtype=torch.uint8), rows=rows)
