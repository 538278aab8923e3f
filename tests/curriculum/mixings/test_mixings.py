"""Mixings on hand-made images, and what holds for every one of them."""

import numpy as np
import pytest
import torch

from curriculum.mixings.base import MixContext, draw_box
from curriculum.mixings.cutmix import Cutmix
from curriculum.mixings.mixup import Mixup
from curriculum.mixings.remix import Remix
from curriculum.mixings.tail_cutmix import TailCutmix
from generators.registry import MethodSpec, build, names

LABELS = torch.tensor([0, 1, 2, 0, 3, 0])
IMAGES = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 8, 8).contiguous()


def context(*counts: int, seed: int = 0, progress: float = 0.0) -> MixContext:
    rng = np.random.default_rng(seed)
    return MixContext(class_counts=torch.tensor(counts), progress=progress, rng=rng)


@pytest.mark.parametrize("name", names("mixing"))
def test_targets_are_shares_batches_keep_their_form_and_draws_are_the_callers(name: str) -> None:
    mixing = build("mixing", MethodSpec(name=name))
    images, labels = IMAGES, LABELS
    if mixing.partner_exponent is not None:
        images, labels = torch.cat([images, images.flip(0)]), torch.cat([labels, labels.flip(0)])
    untouched = images.clone()
    for seed in range(20):
        mixed, targets = mixing.mix(images, labels, context(100, 20, 5, 1, seed=seed))
        again, same = mixing.mix(images, labels, context(100, 20, 5, 1, seed=seed))
        assert mixed.shape == IMAGES.shape
        assert torch.equal(mixed, again)
        assert torch.equal(targets, same)
        if targets.ndim == 2:
            torch.testing.assert_close(targets.sum(1), torch.ones(6))
            assert targets.min() >= 0
        assert 0 <= mixed.min() <= mixed.max() <= 5
        assert len(targets) == 6
    assert torch.equal(images, untouched)


def test_mixup_mixes_images_and_labels_in_the_same_shares() -> None:
    share = np.random.default_rng(0).beta(0.4, 0.4)
    mixed, soft = Mixup(alpha=0.4).mix(IMAGES, LABELS, context(1, 1, 1, 1))
    wanted = share * torch.arange(6.0) + (1 - share) * torch.arange(5.0, -1, -1)
    torch.testing.assert_close(mixed[:, 0, 0, 0], wanted)
    torch.testing.assert_close(soft[1], torch.tensor([0, share, 0, 1 - share]).float())


def test_cutmix_targets_are_areas() -> None:
    mixed, soft = Cutmix(probability=1).mix(IMAGES, LABELS, context(1, 1, 1, 1, seed=3))
    pasted = (mixed[0, 0] == 5).float().mean()
    assert 0 < pasted < 1
    torch.testing.assert_close(soft[1], torch.tensor([0, 1 - pasted, 0, pasted]))
    same, labels = Cutmix(probability=0).mix(IMAGES, LABELS, context(1, 1, 1, 1))
    assert torch.equal(same, IMAGES)
    assert torch.equal(labels, LABELS)


def test_boxes_have_their_share_and_are_cut_at_the_edges() -> None:
    rng, areas = np.random.default_rng(0), []
    for _ in range(200):
        top, bottom, left, right = draw_box(32, 64, 0.25, rng)
        assert 0 <= top < bottom <= 32
        assert 0 <= left < right <= 64
        areas.append((bottom - top) * (right - left))
    assert max(areas) == 16 * 32


def test_remix_gives_the_label_to_the_rare_class_where_it_is_rare_and_there() -> None:
    images, labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
    seen = set()
    for seed in range(40):
        share = np.random.default_rng(seed).beta(1, 1)
        mixed, soft = Remix().mix(images, labels, context(90, 30, seed=seed))
        assert mixed[0].item() == pytest.approx(1 - share, abs=1e-6)
        # Row 0 holds `share` of the frequent class, row 1 of the rare one.
        first = 0.0 if share < 0.5 else share
        second = 1.0 if 1 - share < 0.5 else share
        torch.testing.assert_close(soft[0], torch.tensor([first, 1 - first]))
        torch.testing.assert_close(soft[1], torch.tensor([1 - second, second]))
        seen.add(share < 0.5)
        _, plain = Remix().mix(images, labels, context(80, 30, seed=seed))  # not rare enough
        torch.testing.assert_close(plain[0], torch.tensor([share, 1 - share]).float())
    assert seen == {True, False}


def test_tail_cutmix_pastes_partners_by_area_but_for_the_begin_and_the_end() -> None:
    images, labels = torch.cat([IMAGES, IMAGES + 10]), torch.cat([LABELS, torch.full((6,), 3)])
    mixing = TailCutmix(probability=1)
    mixed, soft = mixing.mix(images, labels, context(9, 9, 9, 9, seed=3, progress=0.5))
    pasted = mixed[:, 0] >= 10
    assert 0 < pasted.float().mean() < 1
    assert torch.equal(mixed[:, 0], torch.where(pasted, images[6:, 0], IMAGES[:, 0]))
    share = pasted[0].float().mean()
    torch.testing.assert_close(soft[2], torch.tensor([0, 0, 1 - share, share]))
    torch.testing.assert_close(soft[4], torch.tensor([0, 0, 0, 1.0]))
    for progress in (0, 0.01, 0.98):
        same, own = mixing.mix(images, labels, context(9, 9, 9, 9, progress=progress))
        assert torch.equal(same, IMAGES)
        assert torch.equal(own, LABELS)
