"""One classifier: trained, tested, stored; interrupted, it continues as if nothing had been."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generators.classifier_file import load_classifier
from infra.config import ArmConfig
from infra.jobs.classifier_job import TrainClassifier, train_spec, training_format, training_images
from infra.jobs.train import predict_train, train_classifier
from infra.storage.runs import RunStore
from infra.workers.base import Progress
from infra.workers.local import LocalWorker
from tasks.train import levels_of
from tests.infra.jobs.world import World, context, generate, prepare, run


def job_for(
    world: World, arm: str, seed: int = 0, store: RunStore | None = None
) -> TrainClassifier:
    settings: ArmConfig = world.config.arms()[arm]
    config = world.config
    return TrainClassifier(
        arm=arm,
        train=train_spec(config.training, config.data, settings, 3, seed),
        config=config,
        store=store or world.store,
        hard_keys=frozenset(
            row["key"]
            for row in world.dataset.split("train").to_pylist()
            if row["class_name"] == "rare"
        ),
        data_hash="0" * 8,
        levels={
            level.image_guidance: level.path(store or world.store)
            for level in world.levels()
            if level.image_guidance in levels_of(config, settings)
        },
    )


@pytest.fixture
def elsewhere(made: World, tmp_path: Path) -> RunStore:
    """A store with the same images and no training yet."""
    store = RunStore(tmp_path / "run")
    store.root.mkdir()
    for path in (made.store.real, made.store.generated, made.store.levels):
        (store.root / path.name).symlink_to(path)
    store.real_manifest.symlink_to(made.store.real_manifest)
    return store


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


@pytest.mark.parametrize("arm", ["baseline", "curriculum"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    made: World, elsewhere: RunStore, tmp_path: Path, arm: str
) -> None:
    job = job_for(made, arm, store=elsewhere)
    undisturbed = run(train_classifier, job, 4)
    weights = load_file(job.classifier)
    for path in job.folder.iterdir():
        path.unlink()

    class Stopped(Exception):
        pass

    for last in (1, 3):  # stopped twice, after the first and the third of four epochs

        def stop(progress: Progress, last: int = last) -> None:
            if progress.done == last:
                raise Stopped

        with pytest.raises(Stopped):
            LocalWorker(context()).run(train_classifier, job, 4, on_progress=stop)
        assert [path.name for path in job.folder.iterdir()] == ["checkpoint.pt"]

    seen: list[Progress] = []
    resumed = LocalWorker(context()).run(train_classifier, job, 4, on_progress=seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(4, 4)]  # only the last epoch
    assert seen[0].gauge == {"updates": job.train.updates_per_epoch}
    assert without_seconds(resumed) == without_seconds(undisturbed)
    for name, tensor in load_file(job.classifier).items():
        assert torch.equal(tensor, weights.pop(name)), name
    assert weights == {}
    assert sorted(path.name for path in job.folder.iterdir()) == [
        "classifier.safetensors",
        "result.json",
    ]


@pytest.mark.parametrize(
    ("changes", "stops", "levels"),
    [
        # One level after the other, a tail share, a loss that looks at the pool's class counts.
        (
            ["curriculum={schedule: fixed_stages, tail_share: 0.4, loss: balanced_softmax}"],
            (1, 2),
            ({0}, {0, 50}, {0, 50}),
        ),
        # The levels the other way round, dropout-like randomness and a moving average.
        (
            [
                "curriculum={schedule: {name: fixed_stages, order: descending}}",
                "training.ema_decay=0.5",
                "training.mixing={name: mixup, alpha: 0.3}",
            ],
            (2,),
            ({50}, {0, 50}),
        ),
    ],
)
def test_a_training_cut_where_levels_are_missing_ends_as_one_that_had_them_all(
    image_folder: Path, tmp_path: Path, changes: list[str], stops: tuple[int, ...],
    levels: tuple[set[int], ...],
) -> None:  # fmt: skip
    """The files of levels that are not complete do not exist while an epoch is trained."""
    world = prepare(image_folder, tmp_path / "run", *changes)
    generate(world)
    job = job_for(world, "curriculum")
    whole = run(train_classifier, job, 4)
    weights = load_file(job.classifier)
    for path in job.folder.iterdir():
        path.unlink()
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for path in job.levels.values():
        path.rename(hidden / path.name)
    for there, until in zip(levels, (*stops, 4), strict=True):
        for level in there:
            if not job.levels[level].exists():
                (hidden / job.levels[level].name).rename(job.levels[level])
        result = LocalWorker(context()).run(
            train_classifier, job, until, on_progress=lambda _: None
        )
        assert ("metrics" in result) == (until == 4)
        assert until == 4 or result == {"epoch": until}
        assert job.result.exists() == (until == 4)
    assert without_seconds(result) == without_seconds(whole)
    again = load_file(job.classifier)
    assert again.keys() == weights.keys()
    for name, tensor in again.items():
        assert torch.equal(tensor, weights[name]), name


def test_a_training_asked_for_less_than_it_has_done_does_nothing(
    made: World, elsewhere: RunStore
) -> None:
    job = job_for(made, "curriculum", store=elsewhere)
    assert run(train_classifier, job, 2) == {"epoch": 2}
    before = job.checkpoint.stat().st_mtime_ns
    assert run(train_classifier, job, 1) == {"epoch": 1}
    assert job.checkpoint.stat().st_mtime_ns == before


def test_a_finished_training_is_read_back(made: World, elsewhere: RunStore) -> None:
    job = job_for(made, "baseline", store=elsewhere)
    first = run(train_classifier, job, 4)
    before = {path: path.stat().st_mtime_ns for path in job.folder.iterdir()}
    assert run(train_classifier, job, 4) == first == json.loads(job.result.read_text())
    assert {path: path.stat().st_mtime_ns for path in job.folder.iterdir()} == before


def test_a_result_tells_arm_seed_metrics_and_the_curriculum_as_it_was(
    made: World, elsewhere: RunStore
) -> None:
    result = run(train_classifier, job_for(made, "curriculum", seed=1, store=elsewhere), 4)
    assert (result["arm"], result["seed"]) == ("curriculum", 1)
    mixtures = [epoch["mixture"] for epoch in result["epochs"]]
    assert mixtures == [{"0": 1.0}, {"50": 1.0}, {"100": 1.0}, {"100": 1.0}]
    assert [epoch["synthetic_share"] > 0 for epoch in result["epochs"]] == [
        True,
        True,
        False,
        False,
    ]
    assert 0 <= result["metrics"]["top1"] <= 100
    assert result["seconds"] > 0
    again = run(train_classifier, job_for(made, "curriculum", seed=1, store=elsewhere), 4)
    assert again == result


def test_names_say_what_would_train_differently(made: World) -> None:
    job = job_for(made, "baseline")
    assert job.name.startswith("baseline-seed0-")
    same = replace(job, train=replace(job.train, device="cuda", num_loader_workers=4))
    assert same.name == job.name
    longer = replace(job, train=replace(job.train, epochs=5))
    other = replace(job, data_hash="1" * 8)
    assert len({job.name, longer.name, other.name, job_for(made, "baseline", seed=1).name}) == 4


def test_the_baseline_sees_real_images_only(made: World) -> None:
    form = training_format(made.config)
    baseline = training_images(job_for(made, "baseline"), made.dataset, form, frozenset()).rows
    job = job_for(made, "curriculum")
    assert job.reads() == ({0}, {50}, set(), set())
    mixed = training_images(job, made.dataset, form, job.levels.keys()).rows
    assert len(baseline) == 19
    assert baseline.is_real.all()
    assert len(mixed) == 19 + 12  # epochs at level 100 are real data only: copies are not read
    by_level = np.bincount(mixed.levels[~mixed.is_real], minlength=101)
    assert by_level[[0, 50, 100]].tolist() == [6, 6, 0]
    assert mixed.is_tail.sum() == 3
    assert set(mixed.labels[mixed.is_tail]) == {1}


def test_logits_of_the_training_images_are_in_the_manifest_s_order(
    made: World, elsewhere: RunStore, tmp_path: Path
) -> None:
    job = job_for(made, "baseline", store=elsewhere)
    run(train_classifier, job, 4)
    path = run(predict_train, job, tmp_path / "logits.npy")
    logits = torch.from_numpy(np.load(path, allow_pickle=False))
    assert logits.shape == (19, 3)
    model, info = load_classifier(job.classifier)
    assert info.class_names == ("across", "rare", "upright")
    form = training_format(made.config)
    table = training_images(job, made.dataset, form, frozenset())
    images = table.read(np.array([4]))
    with torch.inference_mode():
        alone = model(info.normalization.apply(images.float() / 255))
    torch.testing.assert_close(logits[4:5], alone, atol=1e-4, rtol=1e-4)


def test_a_larger_input_and_no_seeds_in_common(made: World) -> None:
    config = made.config
    training = config.training.model_copy(update={"image_size": 16})
    spec = train_spec(training, config.data, config.curriculum, 3, 7)
    assert spec.image_size == (16, 16)
    assert (spec.seed, spec.epochs, spec.batch_size) == (7, 4, 8)
    assert spec.augment.degrees == 10
    assert spec.loss == config.training.loss
