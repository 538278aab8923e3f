import math

import pytest
import torch

from generators.filters.base import (
    CHUNK,
    Bound,
    as_images,
    chunks,
    cosine,
    first_refusal,
    source_bound,
)

BOUNDS = (
    Bound(column="p", lowest=0.5, too_low="low_class_probability"),
    source_bound("s", 0.2, 0.9),
)


@pytest.mark.parametrize(
    ("probability", "similarity", "reason"),
    [
        (0.5, 0.2, ""),
        (1.0, 0.9, ""),
        (0.4999, 0.5, "low_class_probability"),
        (0.6, 0.1999, "far_from_source"),
        (0.6, 0.9001, "too_close_to_source"),
        (0.1, 0.1, "low_class_probability"),
        (math.nan, 0.5, "score_not_finite"),
        (0.6, math.inf, "score_not_finite"),
    ],
)
def test_bounds_include_their_ends_and_the_first_broken_one_speaks(
    probability: float, similarity: float, reason: str
) -> None:
    assert first_refusal(BOUNDS, {"p": probability, "s": similarity, "other": -5.0}) == reason


def test_a_missing_score_is_an_error_not_an_acceptance() -> None:
    with pytest.raises(KeyError):
        first_refusal(BOUNDS, {"p": 0.9})


def test_channels_are_adapted() -> None:
    colour = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    grey = torch.tensor([51], dtype=torch.uint8).view(1, 1, 1, 1)

    assert as_images(colour, 3).flatten().tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert float(as_images(colour, 1)) == pytest.approx(0.299 + 0.114 * 0.2)
    assert as_images(grey, 3).flatten().tolist() == pytest.approx([0.2] * 3)
    assert float(as_images(grey, 1)) == pytest.approx(0.2)


def test_cosine_never_leaves_its_range() -> None:
    rows = torch.randn(500, 33, generator=torch.Generator().manual_seed(0))
    same, opposite = cosine(rows, rows * 3), cosine(rows, -rows)

    assert float(same.max()) <= 1
    assert float(opposite.min()) >= -1
    assert same.tolist() == pytest.approx([1.0] * 500, abs=1e-6)
    assert float(cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))) == pytest.approx(
        0.5**0.5
    )


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_keep_every_row_beside_its_partner(count: int) -> None:
    first = torch.arange(count)
    parts = list(chunks(first, first * 2))

    assert all(len(part[0]) <= CHUNK for part in parts)
    assert [int(row) for part in parts for row in part[0]] == list(range(count))
    assert [int(row) for part in parts for row in part[1]] == [2 * row for row in range(count)]
