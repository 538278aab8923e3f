"""What the trainer does for losses, schedules, augmentations and rebalancers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from curriculum.augment import Augment
from curriculum.evaluate import EvaluateSpec, evaluate
from curriculum.loader import TensorImages
from curriculum.mixings.base import MixContext
from curriculum.mixings.tail_cutmix import TailCutmix
from curriculum.mixture import Composition
from curriculum.rebalance import rebalance
from curriculum.schedules.base import FeedbackSpec, Progress
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.classifier_file import ClassifierInfo, load_classifier, save_classifier
from generators.registry import MethodSpec, build, names
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from tests.curriculum.test_trainer import SPEC, TABLE, same, train, weights


def test_a_synthetic_image_of_weight_zero_teaches_nothing() -> None:
    other = TensorImages(images=TABLE.images.clone(), rows=TABLE.rows)
    other.images[50:] = 0
    levels = MethodSpec(name="mixed", params={"levels": [0, 50]})
    for weight, equal in ((0.0, True), (1.0, False)):
        composition = Composition(tail_share=0.5, synthetic_weight=weight)
        # The model sees them in its batches' statistics: a network without any such.
        spec = dataclasses.replace(SPEC, model="test_vit", image_size=(32, 32), epochs=1)
        spec = dataclasses.replace(spec, schedule=levels, composition=composition)
        assert same(weights(train(spec)), weights(train(spec, other))) is equal


def interrupted(spec: TrainSpec, path: Path) -> Training:
    """Trained like any other, but stored and continued after the first epoch."""
    first, second = Training(spec, TABLE), Training(spec, TABLE)
    next(iter(first.run()))
    save_checkpoint(path, first.state())
    second.restore(load_checkpoint(path))
    list(second.run())
    return second


@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_trains_saves_and_resumes_with_its_head(name: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, loss=MethodSpec(name=name), epochs=3)
    whole = train(spec)
    assert same(weights(whole), weights(interrupted(spec, tmp_path / "state.pt")))
    network = whole.result.eval()
    info = ClassifierInfo(
        model="small_cnn",
        class_names=("upper", "lower"),
        channels=1,
        image_size=(8, 8),
        head=build("loss", spec.loss).head,
    )
    save_classifier(tmp_path / "c.safetensors", network, info)
    loaded, _ = load_classifier(tmp_path / "c.safetensors")
    inputs = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert network(inputs).shape == (3, 2)
        torch.testing.assert_close(loaded(inputs), network(inputs))


CMO = MethodSpec(name="tail_cutmix", params={"probability": 1, "first_percent": 0})


def test_partners_come_from_all_classes_alike_and_are_read_with_their_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def mix(self: TailCutmix, images: Tensor, labels: Tensor, context: MixContext) -> Any:
        seen.append((images, labels))
        return original(self, images, labels, context)

    original = TailCutmix.mix
    monkeypatch.setattr(TailCutmix, "mix", mix)
    train(dataclasses.replace(SPEC, mixing=CMO, updates_per_epoch=20))
    drawn = torch.cat([labels[SPEC.batch_size :] for _, labels in seen])
    assert len(drawn) == 4 * 20 * SPEC.batch_size
    assert float(drawn.float().mean()) == pytest.approx(0.5, abs=0.08)  # a fifth of the images
    for images, labels in seen:  # class 0 is bright above
        brighter = images[:, 0, :4].mean((1, 2)) > images[:, 0, 4:].mean((1, 2))
        assert torch.equal(brighter, labels == 0)


def test_a_training_with_partners_resumes_with_the_same_bits(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, mixing=CMO, augment=Augment(translate=0.1), epochs=3)
    assert same(weights(train(spec)), weights(interrupted(spec, tmp_path / "state.pt")))


class Watching:
    """An adaptive schedule that remembers what it is told."""

    levels = (0, 50)
    feedback = FeedbackSpec(num_sources=3, probe_percent=40)

    def __init__(self) -> None:
        self.told: list[Mapping[int, float]] = []

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        if feedback:
            self.told.append(feedback)
        return {0: 1.0}


def test_an_adaptive_schedule_is_told_what_was_learned_of_images_it_never_trains_on() -> None:
    held_out = np.zeros(70, dtype=bool)
    held_out[[60, 61, 62, 63]] = True
    rows = dataclasses.replace(TABLE.rows, is_held_out=held_out)
    table = TensorImages(images=TABLE.images, rows=rows)
    training = Training(dataclasses.replace(SPEC, composition=Composition(tail_share=0.5)), table)
    watching, seen = Watching(), []
    training._schedule = watching
    read, taken = training._loader.batches, []

    def batches(indices: Any) -> Any:
        taken.append(indices)
        return read(indices)

    training._loader.batches = batches  # type: ignore[method-assign]
    for report in training.run():
        seen.append(report.feedback)
    assert watching.told == seen
    assert [set(told) for told in seen] == [{0, 50}] * 4
    assert max(abs(value) for told in seen for value in told.values()) > 0.01
    # 2 of 5 updates on real images, then 3 as planned
    assert [len(part) // 8 for part in taken] == [2, 3] * 4
    assert all(table.rows.is_real[part].all() for part in taken[::2])
    assert not set(np.concatenate(taken)) & set(np.flatnonzero(held_out))


def test_strengths_of_classes_are_part_of_the_state() -> None:
    cuda = MethodSpec(name="cuda", params={"num_images": 4, "gamma": 0.3})
    spec = dataclasses.replace(SPEC, augmentation=cuda, epochs=5)
    whole = Training(spec, TABLE)
    reports = list(whole.run())
    seen = [report.strengths for report in reports]
    assert max(max(strengths) for strengths in seen) >= 2
    for before, after in zip([(0, 0), *seen], seen, strict=False):
        assert all(abs(a - b) <= 1 for a, b in zip(before, after, strict=True))
    first, second = Training(spec, TABLE), Training(spec, TABLE)
    run = first.run()
    next(run), next(run), next(run)
    second.restore(first.state())
    assert [report.strengths for report in second.run()] == seen[3:]
    assert same(weights(whole), weights(second))


@pytest.mark.parametrize("name", names("rebalancer"))
def test_a_trained_network_is_rebalanced_on_its_own_images(name: str) -> None:
    training = train(SPEC)
    spec = dataclasses.replace(SPEC, rebalancer=MethodSpec(name=name))
    before = {key: value for key, value in weights(training).items() if "head" not in key}
    found = rebalance(training.result, TABLE, spec)
    metrics = evaluate(found, TABLE, torch.tensor([40, 10]), EvaluateSpec())
    assert metrics.top1 > 90
    assert same(before, found.state_dict())
