"""What an epoch draws, and under which prior."""

import dataclasses

import numpy as np
import pytest
import torch

from curriculum.epoch import EpochPlan, plan_epoch, uniform_rows, with_partners
from curriculum.mixture import Composition, epoch_pool
from curriculum.schedules.base import Progress
from curriculum.train_spec import WITHOUT_EFFECT, TrainSpec
from generators.registry import MethodSpec, build, content_hash
from tests.curriculum.test_mixture import ROWS

SPEC = TrainSpec(
    image_size=(8, 8), channels=1, num_classes=3, epochs=10, updates_per_epoch=33, batch_size=10
)


def plan(
    mixture: dict[int, float], spec: TrainSpec = SPEC, seed: int = 0, epoch: int = 0
) -> EpochPlan:
    progress = Progress(epoch=epoch, num_epochs=spec.epochs)
    sampling = build("sampling", spec.sampling)
    return plan_epoch(ROWS, mixture, dataclasses.replace(spec, seed=seed), sampling, progress)


def test_indices_cycle_through_the_pool_in_a_new_order_each_time() -> None:
    composition, size = Composition(head_keep=0.5), 150  # 100 heads, 10 tails, 40 synthetic
    found = plan({40: 1.0}, dataclasses.replace(SPEC, composition=composition), 3, 5).indices
    pool = np.sort(epoch_pool(ROWS, {40: 1.0}, composition, 3, 5))
    assert found.dtype == np.int64
    assert len(found) == 330
    assert np.array_equal(np.sort(found[:size]), pool)
    assert np.array_equal(np.sort(found[size : 2 * size]), pool)
    assert not np.array_equal(found[:size], found[size : 2 * size])
    assert len(set(found[300:])) == 30


def test_indices_depend_on_all_arguments_and_on_nothing_else() -> None:
    def drawn(mixture: dict[int, float], seed: int, epoch: int) -> list[int]:
        return plan(mixture, seed=seed, epoch=epoch).indices.tolist()

    np.random.seed(1)  # the global state must not matter
    first = drawn({40: 1.0}, 0, 0)
    np.random.seed(2)
    assert drawn({40: 1.0}, 0, 0) == first
    others = [drawn({40: 1.0}, 0, 1), drawn({40: 1.0}, 1, 0), drawn({0: 1.0}, 0, 0)]
    assert all(other != first for other in others)


def test_class_counts_are_of_the_pool_synthetic_images_by_their_weight() -> None:
    composition = Composition(tail_share=0.2, head_keep=0.3, synthetic_weight=0.2)
    found = plan({40: 1.0}, dataclasses.replace(SPEC, composition=composition))
    # 60 heads, 10 originals, 5 synthetic ones at a fifth
    assert found.class_counts.tolist() == pytest.approx([60, 11, 0])


@pytest.mark.parametrize("added", [0.0, 0.1, 1.0])
def test_what_is_added_counts_in_the_prior_as_it_is_told(added: float) -> None:
    composition = Composition(tail_share=0.4, synthetic_weight=0.5, added_count=added)
    spec = dataclasses.replace(SPEC, composition=composition)
    # 200 heads of class 0, 10 originals of class 1; 123 synthetic images, or repetitions of those
    for mixture in ({40: 1.0}, {100: 1.0}):
        found = plan(mixture, spec)
        assert len(found.pool) == 333
        assert found.class_counts.tolist() == pytest.approx([200, 10 + added * 123, 0])
    baseline = plan({100: 1.0}, dataclasses.replace(SPEC, composition=Composition()))
    alone = plan({100: 1.0}, dataclasses.replace(SPEC, composition=Composition(added_count=added)))
    assert torch.equal(alone.class_counts, baseline.class_counts)


def test_a_training_that_does_not_use_it_keeps_its_name() -> None:
    plain = {"tail_share": 0.4, "head_keep": 1.0, "synthetic_weight": 1.0}
    values = dataclasses.asdict(SPEC) | {"composition": plain}
    values = {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}
    spec = dataclasses.replace(SPEC, composition=Composition(tail_share=0.4))
    assert spec.fingerprint() == content_hash(values)
    counted = dataclasses.replace(SPEC, composition=Composition(tail_share=0.4, added_count=0.5))
    assert counted.fingerprint() != spec.fingerprint()


@pytest.mark.parametrize(
    ("name", "epoch", "share"),
    [
        ("instance", 0, 50 / 250),
        ("class_balanced", 0, 0.5),
        ("square_root", 0, 50**0.5 / (50**0.5 + 200**0.5)),
        ("progressive", 0, 50 / 250),
        ("progressive", 5, 0.5 * 50 / 250 + 0.5 * 0.5),
    ],
)
def test_samplings_draw_their_shares_and_tell_the_loss(name: str, epoch: int, share: float) -> None:
    spec = dataclasses.replace(
        SPEC, sampling=MethodSpec(name=name), updates_per_epoch=100, composition=Composition()
    )
    found = plan({40: 1.0}, spec, epoch=epoch)  # 200 heads of class 0, 50 images of class 1
    drawn = np.bincount(ROWS.labels[found.indices], minlength=3) / 1000
    assert drawn[1] == pytest.approx(share, abs=0.002 if name != "instance" else 0.02)
    prior = found.class_counts / found.class_counts.sum()
    torch.testing.assert_close(
        prior, torch.tensor([1 - share, share, 0], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_every_image_of_a_class_is_drawn_before_one_is_drawn_twice() -> None:
    spec = dataclasses.replace(SPEC, sampling=MethodSpec(name="class_balanced"))
    found = plan({40: 1.0}, spec).indices  # 165 of 50 images of class 1
    times = np.bincount(found[ROWS.labels[found] == 1])
    assert set(times[times > 0].tolist()) == {3, 4}
    assert len(times[times > 0]) == 50
    assert not np.all(np.diff(ROWS.labels[found]) >= 0)  # shuffled over classes


def test_the_short_training_reads_real_images_uniformly() -> None:
    found = uniform_rows(ROWS, 210, 0, 3)
    assert sorted(found) == [*range(210)]
    assert not np.array_equal(found, uniform_rows(ROWS, 210, 0, 4))


@pytest.mark.parametrize(("exponent", "rare"), [(0.0, 0.05), (1.0, 0.5), (2.0, 0.95)])
def test_partners_stand_behind_each_batch_drawn_by_their_class(
    exponent: float, rare: float
) -> None:
    indices = np.random.default_rng(0).permutation(np.r_[np.arange(190), 200:210])
    drawn = [
        with_partners(ROWS, indices, 10, exponent, np.random.default_rng(seed))
        for seed in range(20)
    ]
    batches = np.stack(drawn).reshape(20, 20, 2, 10)
    assert all(np.array_equal(own.ravel(), indices) for own in batches[:, :, 0])
    partners = batches[:, :, 1].ravel()
    assert set(partners) <= set(indices)
    assert set(partners) >= set(range(200, 210))
    # 4,000 draws: standard deviations of at most 0.008.
    assert np.mean(ROWS.labels[partners] == 1) == pytest.approx(rare, abs=0.03)
