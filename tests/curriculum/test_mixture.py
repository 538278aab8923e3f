import dataclasses

import numpy as np
import pytest

from curriculum.mixture import Composition, Rows, epoch_pool
from generators.errors import DataError

REAL_ONLY = {100: 1.0}
NUM_HEAD, NUM_TAIL, PER_LEVEL = 200, 10, 40


def make_rows(levels: tuple[int, ...] = (0, 40, 80), per_level: int = PER_LEVEL) -> Rows:
    """200 head rows of class 0, 10 tail rows of class 1, then 40 synthetic rows a level."""
    synthetic = np.repeat(np.array(levels, dtype=np.int64), per_level)
    real = np.full(NUM_HEAD + NUM_TAIL, 100)
    return Rows(
        labels=np.r_[np.zeros(NUM_HEAD, int), np.ones(NUM_TAIL + len(synthetic), int)],
        levels=np.r_[real, synthetic],
        is_real=np.r_[np.ones(len(real), bool), np.zeros(len(synthetic), bool)],
        is_tail=np.r_[np.zeros(NUM_HEAD, bool), np.ones(NUM_TAIL + len(synthetic), bool)],
    )


ROWS = make_rows()
HEAD = np.arange(NUM_HEAD)
TAIL = np.arange(NUM_HEAD, NUM_HEAD + NUM_TAIL)


def synthetic_of(pool: np.ndarray, level: int) -> np.ndarray:
    return pool[~ROWS.is_real[pool] & (ROWS.levels[pool] == level)]


@pytest.mark.parametrize("head_keep", [1.0, 0.3])
@pytest.mark.parametrize("share", [0.136, 0.25, 0.5, 0.8])
def test_tail_share_is_exact_to_one_sample(share: float, head_keep: float) -> None:
    composition = Composition(tail_share=share, head_keep=head_keep)
    pool = epoch_pool(ROWS, {40: 1.0}, composition, 0, 0)
    assert np.sum(pool < NUM_HEAD) == NUM_HEAD * head_keep
    assert abs(np.sum(pool >= NUM_HEAD) - share * len(pool)) <= 1
    assert len(synthetic_of(pool, 40)) == np.sum(~ROWS.is_real[pool])


def test_tail_side_is_originals_first_then_synthetic() -> None:
    # 200 heads and a share of 1/5 want 50 tail rows: the 10 originals and 40 synthetic ones.
    pool = epoch_pool(ROWS, {40: 1.0}, Composition(tail_share=0.2), 0, 0)
    assert sorted(pool) == [*HEAD, *TAIL, *np.flatnonzero(ROWS.levels == 40)]
    # A share so small that it cannot hold all originals takes some of them and nothing else.
    few = epoch_pool(ROWS, {40: 1.0}, Composition(tail_share=0.02), 0, 0)
    assert len(set(few) & set(TAIL)) == 4
    assert len(few) == NUM_HEAD + 4


def test_synthetic_rows_repeat_evenly_when_there_are_too_few() -> None:
    pool = epoch_pool(ROWS, {40: 1.0}, Composition(tail_share=0.5), 0, 0)
    times = np.bincount(synthetic_of(pool, 40))
    assert set(times[times > 0]) == {4, 5}  # 190 draws of 40 rows
    assert len(times[times > 0]) == PER_LEVEL


def test_heads_are_drawn_anew_every_epoch() -> None:
    composition = Composition(head_keep=0.3)
    first, second = (epoch_pool(ROWS, REAL_ONLY, composition, 7, epoch) for epoch in (0, 1))
    heads = [np.sort(pool[pool < NUM_HEAD]) for pool in (first, second)]
    assert [len(set(part)) for part in heads] == [60, 60]
    assert not np.array_equal(*heads)
    assert set(TAIL) <= set(first)


def test_real_data_only() -> None:
    assert sorted(epoch_pool(ROWS, REAL_ONLY, Composition(), 0, 0)) == [*HEAD, *TAIL]
    # With a share, hard originals repeat: plain oversampling.
    pool = epoch_pool(ROWS, REAL_ONLY, Composition(tail_share=0.5), 0, 0)
    assert np.bincount(pool, minlength=len(ROWS)).tolist() == [1] * 200 + [20] * 10 + [0] * 120


def test_without_a_share_a_level_brings_all_its_rows() -> None:
    pool = epoch_pool(ROWS, {40: 1.0}, Composition(), 0, 0)
    assert sorted(pool) == [*HEAD, *TAIL, *np.flatnonzero(ROWS.levels == 40)]


def test_mixed_levels_bring_as_many_rows_as_one_level_on_average() -> None:
    thirds = {0: 1 / 3, 40: 1 / 3, 80: 1 / 3}
    pool = epoch_pool(ROWS, thirds, Composition(), 0, 0)
    assert len(pool) == NUM_HEAD + NUM_TAIL + PER_LEVEL
    parts = [synthetic_of(pool, level) for level in (0, 40, 80)]
    assert [len(part) for part in parts] == [14, 13, 13]
    assert all(len(set(part)) == len(part) for part in parts)
    uneven = epoch_pool(ROWS, {0: 0.75, 80: 0.25}, Composition(tail_share=0.5), 0, 0)
    assert [len(synthetic_of(uneven, level)) for level in (0, 40, 80)] == [143, 0, 47]  # of 190


def test_level_100_beside_others_means_copies_of_hard_originals() -> None:
    pool = epoch_pool(ROWS, {0: 0.5, 100: 0.5}, Composition(), 0, 0)
    assert len(synthetic_of(pool, 0)) == 20
    assert np.bincount(pool)[TAIL].sum() == 15  # 10 originals and half of 10 copies
    stored = make_rows((0, 100))
    copies = np.flatnonzero(~stored.is_real & (stored.levels == 100))
    pool = epoch_pool(stored, {0: 0.5, 100: 0.5}, Composition(), 0, 0)
    assert len(set(pool) & set(copies)) == 20
    only = epoch_pool(stored, REAL_ONLY, Composition(), 0, 0)
    assert not set(only) & set(copies)


def test_levels_without_images_leave_their_weight_to_the_others() -> None:
    pool = epoch_pool(ROWS, {20: 0.5, 40: 0.25, 80: 0.25}, Composition(tail_share=0.5), 0, 0)
    assert [len(synthetic_of(pool, level)) for level in (20, 40, 80)] == [0, 95, 95]
    none = epoch_pool(ROWS, {20: 1.0}, Composition(tail_share=0.5), 0, 0)
    assert np.all(np.bincount(none)[TAIL] == 20)


def test_no_head_or_no_tail_rows() -> None:
    labels = np.zeros(5, dtype=np.int64)
    all_hard = Rows.real(labels, np.ones(5, dtype=bool))
    assert sorted(epoch_pool(all_hard, REAL_ONLY, Composition(tail_share=0.2), 0, 0)) == [*range(5)]
    none_hard = Rows.real(labels)
    assert sorted(epoch_pool(none_hard, {0: 1.0}, Composition(tail_share=0.2), 0, 0)) == [*range(5)]
    with pytest.raises(DataError, match="no real image"):
        epoch_pool(Rows.real(labels[:0]), REAL_ONLY, Composition(), 0, 0)


def test_held_out_images_are_not_trained_on() -> None:
    held_out = np.zeros(len(ROWS), dtype=bool)
    held_out[np.flatnonzero(ROWS.levels == 40)[:15]] = True
    rows = dataclasses.replace(ROWS, is_held_out=held_out)
    pool = epoch_pool(rows, {0: 0.5, 40: 0.5}, Composition(tail_share=0.6), 0, 0)
    assert len(set(synthetic_of(pool, 40))) == 25
    assert not set(pool) & set(rows.held_out())
