"""Samples become files beside the denoiser: all of them, each its own, whatever the group."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from generators.cache import ROWS
from infra.jobs.finishing import MAX_WAITING, Finisher, ImageForm

PNG = ImageForm(extension="png", jpeg_quality=95)


class Decoder:
    """Brightens samples; writes down the groups it is given; may be short of memory."""

    device = torch.device("cpu")

    def __init__(self, rows: int = 10**6) -> None:
        self.groups: list[int] = []
        self.rows = rows

    def decode(self, samples: Tensor) -> Tensor:
        if len(samples) > self.rows:
            raise torch.OutOfMemoryError
        self.groups.append(len(samples))
        return samples + 0.5


def finish(finisher: Finisher[int], samples: list[Tensor]) -> dict[int, bytes | None]:
    found: dict[int, bytes | None] = {}
    with finisher:
        for key, sample in enumerate(samples):
            found.update(finisher.add(key, sample))
        found.update(finisher.close())
    return found


def flat(value: float) -> Tensor:
    return torch.full((1, 4, 4), value)


def value_of(file: bytes | None) -> int:
    assert file is not None
    pixels = np.array(Image.open(io.BytesIO(file)))
    assert pixels.shape == (4, 4)
    assert pixels.min() == pixels.max()
    return int(pixels[0, 0])


@pytest.mark.parametrize("pad", [False, True])
def test_every_sample_becomes_its_own_file(pad: bool) -> None:
    decoder: Any = Decoder()
    count = ROWS * (MAX_WAITING + 3) + 3
    samples = [flat(-1.5 + 2 * (key % 200) / 255) for key in range(count)]

    found = finish(Finisher(decoder, PNG, pad=pad, threads=2), samples)

    assert sorted(found) == list(range(count))
    assert [value_of(found[key]) for key in range(count)] == [key % 200 for key in range(count)]
    full, rest = divmod(count, ROWS)
    assert decoder.groups == [ROWS] * full + [ROWS if pad else rest]


def test_a_sample_that_is_not_finite_spoils_no_other() -> None:
    decoder: Any = Decoder()
    bad = flat(0.0)
    bad[0, 2, 1] = float("nan")
    found = finish(Finisher(decoder, PNG, pad=True, threads=1), [flat(-0.5), bad, flat(0.5)])
    assert found[1] is None
    assert (value_of(found[0]), value_of(found[2])) == (128, 255)


def test_groups_are_split_when_memory_is_short() -> None:
    decoder: Any = Decoder(rows=3)
    found = finish(Finisher(decoder, PNG, pad=False, threads=1), [flat(-0.5)] * ROWS)
    assert [value_of(file) for file in found.values()] == [128] * ROWS
    assert sum(decoder.groups) == ROWS
    assert max(decoder.groups) <= 3
    with pytest.raises(torch.OutOfMemoryError):
        finish(Finisher(Decoder(rows=0), PNG, pad=False, threads=1), [flat(0.0)])  # type: ignore[arg-type]


def test_stages_are_timed() -> None:
    finisher: Finisher[int] = Finisher(Decoder(), PNG, pad=False, threads=1)  # type: ignore[arg-type]
    finish(finisher, [flat(0.0)] * 20)
    assert set(finisher.watch.seconds()) == {"decode", "encode"}
    assert all(seconds > 0 for seconds in finisher.watch.seconds().values())


def test_jpeg_files_have_the_quality_that_was_asked_for() -> None:
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    sizes = [
        len(ImageForm(extension="jpg", jpeg_quality=quality).encode(noise)) for quality in (30, 95)
    ]
    assert sizes[0] < sizes[1]
