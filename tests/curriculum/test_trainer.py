import dataclasses
import math
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
from curriculum.mixture import Composition, Rows
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.errors import CheckpointError, ConfigError, DataError
from generators.registry import MethodSpec
from infra.storage.checkpoint import load_checkpoint, save_checkpoint


def make_table(num_synthetic: int = 20) -> TensorImages:
    """Bars: class 0 is bright above, class 1 (rare) below; noise on top. Levels 0 and 50."""
    draw = torch.Generator().manual_seed(0)
    labels = np.r_[np.zeros(40, int), np.ones(10, int), np.ones(num_synthetic, int)]
    images = torch.randint(0, 100, (len(labels), 1, 8, 8), generator=draw)
    upper = torch.from_numpy(labels == 0)
    images[upper, :, :4] += 120
    images[~upper, :, 4:] += 120
    real = np.arange(len(labels)) < 50
    levels = np.where(real, 100, np.where(np.arange(len(labels)) % 2, 0, 50))
    rows = Rows(labels=labels, levels=levels, is_real=real, is_tail=labels == 1)
    return TensorImages(images=images.to(torch.uint8), rows=rows)


TABLE = make_table()
SPEC = TrainSpec(
    image_size=(8, 8), channels=1, num_classes=2, epochs=4, updates_per_epoch=5, batch_size=8
)
STAGES = MethodSpec(name="fixed_stages", params={"levels": [0, 50], "real_percent": 25})
EVERYTHING = dataclasses.replace(
    SPEC,
    ema_decay=0.8,
    mixing=MethodSpec(name="mixup", params={"alpha": 0.4}),
    sampling=MethodSpec(name="square_root"),
    augment=Augment(degrees=10, translate=0.1, horizontal_flip=0.5),
    loss=MethodSpec(name="balanced_softmax", params={"label_smoothing": 0.1}),
    schedule=STAGES,
    composition=Composition(tail_share=0.4, head_keep=0.5),
    seed=3,
)


def weights(training: Training) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in training.result.state_dict().items()}


def train(spec: TrainSpec, table: TensorImages = TABLE) -> Training:
    training = Training(spec, table)
    for _ in training.run():
        pass
    return training


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_learns_bars_and_reports_every_epoch() -> None:
    training = Training(dataclasses.replace(SPEC, epochs=6), TABLE)
    reports = list(training.run())
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].loss < 0.2 < reports[0].loss
    found = evaluate(training.result, TABLE, torch.tensor([40, 10]), EvaluateSpec())
    assert found.top1 > 98
    assert list(training.run()) == []  # a finished training has nothing left to do


def test_rate_warms_up_and_falls_as_a_cosine() -> None:
    spec = dataclasses.replace(SPEC, updates_per_epoch=1, batch_size=2, epochs=20)
    spec = dataclasses.replace(spec, warmup_percent=20, learning_rate=0.01)
    rates = [report.learning_rate for report in Training(spec, TABLE).run()]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, rates[4]])
    wanted = [0.005 * (1 + math.cos(math.pi * update / 20)) for update in range(4, 20)]
    assert rates[4:] == pytest.approx(wanted)


def test_epochs_follow_the_schedule() -> None:
    spec = dataclasses.replace(SPEC, schedule=STAGES, batch_size=7, updates_per_epoch=10)
    spec = dataclasses.replace(spec, epochs=5, composition=Composition(tail_share=0.5))
    reports = list(Training(spec, TABLE).run())
    assert [report.mixture for report in reports] == [{0: 1}, {0: 1}, {50: 1}, {50: 1}, {100: 1}]
    # 40 heads, 10 tail originals and 30 synthetic make a pool of 80; an epoch draws 70 of it.
    shares = [report.synthetic_share for report in reports]
    assert all(share == pytest.approx(30 / 80, abs=0.15) for share in shares[:4])
    assert shares[4] == 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("epochs_before", [1, 3])
def test_resumed_training_ends_with_the_same_bits(
    optimizer: Any, epochs_before: int, tmp_path: Path
) -> None:
    spec = dataclasses.replace(EVERYTHING, optimizer=optimizer)
    whole = train(spec)
    path = tmp_path / "deep" / "state.pt"
    first = Training(spec, TABLE)
    for report in first.run():
        save_checkpoint(path, first.state())
        if report.epoch == epochs_before:
            break
    torch.manual_seed(99)  # another process has another global state
    second = Training(spec, TABLE)
    second.restore(load_checkpoint(path))
    assert [r.epoch for r in second.run()] == list(range(epochs_before + 1, 5))
    assert same(weights(whole), weights(second))
    assert same(whole.model.state_dict(), second.model.state_dict())
    assert [item.name for item in path.parent.iterdir()] == ["state.pt"]


def test_result_depends_on_the_spec_alone() -> None:
    before = torch.random.get_rng_state()
    first = weights(train(EVERYTHING))
    assert torch.equal(torch.random.get_rng_state(), before)
    with_worker = dataclasses.replace(EVERYTHING, num_loader_workers=1)
    assert with_worker.fingerprint() == EVERYTHING.fingerprint()
    assert same(first, weights(train(with_worker)))
    changes: list[dict[str, Any]] = [
        {"seed": 4},
        {"mixing": MethodSpec(name="none")},
        {"sampling": MethodSpec(name="instance")},
        {"augment": Augment()},
        {"ema_decay": None},
    ]
    for change in changes:
        other = dataclasses.replace(EVERYTHING, **change)
        assert other.fingerprint() != EVERYTHING.fingerprint()
        assert not same(first, weights(train(other)))


def test_every_epoch_augments_anew() -> None:
    # One image twice and a network that stands still: only the augmentation changes the loss.
    twins = TensorImages(images=TABLE.images[[0, 0]], rows=Rows.real(np.array([0, 0])))
    spec = dataclasses.replace(SPEC, batch_size=2, updates_per_epoch=1, learning_rate=1e-30)
    still = [report.loss for report in Training(spec, twins).run()]
    assert still == pytest.approx([still[0]] * 4)
    turning = dataclasses.replace(spec, augment=Augment(degrees=90))
    assert len({round(report.loss, 6) for report in Training(turning, twins).run()}) == 4


def test_moving_average_is_the_result() -> None:
    spec = dataclasses.replace(SPEC, ema_decay=0.75, epochs=3, updates_per_epoch=1)
    training, average = Training(spec, TABLE), None
    for report in training.run():
        head = training.model.state_dict()["head.weight"].clone()
        average = head if report.epoch == 1 else 0.75 * average + 0.25 * head
    torch.testing.assert_close(weights(training)["head.weight"], average)
    assert not training.result.training


def test_balanced_softmax_is_given_the_counts_of_the_pool() -> None:
    # 40 heads and the 10 tail originals four times over: a balanced pool, so nothing to correct.
    balanced = dataclasses.replace(SPEC, composition=Composition(tail_share=0.5), epochs=2)
    softmax = {"loss": MethodSpec(name="balanced_softmax")}
    plain = weights(train(balanced))["head.weight"]
    corrected = weights(train(dataclasses.replace(balanced, **softmax)))["head.weight"]
    torch.testing.assert_close(plain, corrected, rtol=1e-3, atol=1e-4)
    tailed = dataclasses.replace(SPEC, epochs=2)
    gap = (
        weights(train(tailed))["head.weight"]
        - weights(train(dataclasses.replace(tailed, **softmax)))["head.weight"]
    )
    assert gap.abs().max() > 1e-2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_too(precision: Any, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, precision=precision)
    training = Training(spec, TABLE)
    losses = [report.loss for report in training.run()]
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in training.model.parameters())
    assert not same(weights(training), weights(train(SPEC)))
    save_checkpoint(tmp_path / "state.pt", training.state())
    Training(spec, TABLE).restore(load_checkpoint(tmp_path / "state.pt"))


def test_images_are_resized_for_a_timm_model() -> None:
    spec = dataclasses.replace(SPEC, model="test_vit", image_size=(32, 32), epochs=1)
    (report,) = Training(spec, TABLE).run()
    assert math.isfinite(report.loss)


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(CheckpointError, match="no training state"):
        load_checkpoint(path)
    state = Training(SPEC, TABLE).state()
    save_checkpoint(path, state)
    with pytest.raises(CheckpointError, match="another configuration"):
        Training(dataclasses.replace(SPEC, seed=1), TABLE).restore(state)
    with pytest.raises(CheckpointError, match="another configuration"):
        Training(SPEC, make_table(num_synthetic=18)).restore(state)
    whole = path.read_bytes()
    for damaged in (b"", b"garbage", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a readable"):
            load_checkpoint(path)


def test_mistakes_are_found_before_any_work() -> None:
    too_many = MethodSpec(name="fixed_stages")
    with pytest.raises(ConfigError, match="epochs: 4"):
        Training(dataclasses.replace(SPEC, schedule=too_many), TABLE)
    with pytest.raises(ConfigError, match="balanced_softmax"):
        Training(dataclasses.replace(SPEC, loss=MethodSpec(name="balanced_softmx")), TABLE)
    three = TensorImages(images=TABLE.images[:3], rows=Rows.real(np.array([0, 1, 2])))
    with pytest.raises(DataError, match=r"0\.\.1; found label 2"):
        Training(SPEC, three)
    nothing = TensorImages(images=TABLE.images[:0], rows=Rows.real(np.zeros(0, int)))
    with pytest.raises(DataError, match="no image"):
        Training(SPEC, nothing)


def test_divergence_is_a_clear_error() -> None:
    wild = dataclasses.replace(SPEC, optimizer="sgd", learning_rate=1e30, warmup_percent=0)
    with pytest.raises(ConfigError, match=r"learning_rate: 1e\+30 .* epoch"):
        train(wild)
