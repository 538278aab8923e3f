"""A generator trained on ingested images: interrupted, it ends with the same weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generators.backbones.pixel_unet import PixelUnet
from generators.fit_spec import FitSpec
from infra.jobs.classifier_job import train_spec
from infra.jobs.fit import FitGenerator, fit_folder, fit_generator
from infra.jobs.transfer import TransferJob, measure_transfer
from infra.workers.base import Progress
from infra.workers.local import LocalWorker
from tests.infra.jobs.world import World, contents, context, method, run, write_images

SPEC = FitSpec(steps=120, batch_size=2, block_out_channels=(8,), attention=False, seed=5)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def job(made: World, tmp_path: Path) -> FitGenerator:
    return FitGenerator(
        spec=SPEC,
        data=made.config.data,
        data_hash="0" * 8,
        store=made.store,
        folder=tmp_path / "generator",
        facts={"knowledge": "the test's images"},
    )


def test_an_interrupted_fit_ends_as_an_undisturbed_one(job: FitGenerator, tmp_path: Path) -> None:
    whole = replace(job, folder=tmp_path / "whole")
    run(fit_generator, whole)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done == 50:
            raise Stopped

    with pytest.raises(Stopped):
        LocalWorker(context()).run(fit_generator, job, on_progress=stop)
    assert [path.name for path in job.folder.iterdir()] == ["checkpoint.pt"]
    seen: list[int] = []
    LocalWorker(context()).run(fit_generator, job, on_progress=lambda p: seen.append(p.done))
    assert seen == [60, 70, 80, 90, 100, 110, 120]

    ours, theirs = load_file(job.folder / WEIGHTS), load_file(whole.folder / WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    cards = [
        json.loads((folder / "card.json").read_text()) for folder in (job.folder, whole.folder)
    ]
    assert cards[0]["losses"] == cards[1]["losses"]
    assert [step for step, _ in cards[0]["losses"]] == list(range(10, 121, 10))
    assert not (job.folder / "checkpoint.pt").exists()


def test_a_killed_fit_loses_what_was_made_since_its_last_checkpoint(
    job: FitGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.jobs.fit.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("infra.jobs.fit.MOST_SAVING", 1e9)
    steps = fit_generator(context(), job)
    while next(steps).done < 50:
        pass
    kept = (job.folder / "checkpoint.pt").read_bytes()
    steps.close()
    (job.folder / "checkpoint.pt").write_bytes(kept)  # a kill saves nothing at the end
    seen: list[int] = []
    LocalWorker(context()).run(fit_generator, job, on_progress=lambda p: seen.append(p.done))
    assert seen[0] == 60


def test_a_finished_generator_is_not_trained_again_and_can_be_loaded(job: FitGenerator) -> None:
    quick = replace(job, spec=replace(SPEC, steps=1))
    assert run(fit_generator, quick) == job.folder
    before = contents(job.folder)
    run(fit_generator, replace(quick, spec=replace(SPEC, steps=2)))
    assert contents(job.folder) == before
    card = json.loads(before["card.json"])
    assert card["knowledge"] == "the test's images"
    assert card["class_names"] == ["across", "rare", "upright"]
    assert card["images"] == 19
    assert card["fit"]["seed"] == 5
    backbone = PixelUnet(path=str(job.folder)).load("cpu")
    assert backbone.pixel_shape == (1, 8, 8)
    assert backbone.class_names == ("across", "rare", "upright")


def test_the_folder_of_a_fit_follows_settings_and_images(made: World) -> None:
    folders = {
        fit_folder(made.store, SPEC, "a"),
        fit_folder(made.store, SPEC, "b"),
        fit_folder(made.store, replace(SPEC, seed=6), "a"),
    }
    assert len(folders) == 3
    assert fit_folder(made.store, SPEC, "a") in folders


def transfer_job(made: World, folder: Path) -> TransferJob:
    config = made.config
    training = config.training.model_copy(update={"epochs": 6})
    arm = config.arms()["baseline"]
    return TransferJob(
        train=train_spec(training, config.data, arm, 3, 0),
        data=config.data,
        store=made.store,
        transfer=method("folder", path=str(folder)),
    )


def test_transfer_is_measured_on_every_readable_image(made: World, tmp_path: Path) -> None:
    write_images(tmp_path / "other", {"upright": 6, "across": 5}, seed=9)
    (tmp_path / "other" / "across" / "broken.png").write_bytes(b"no image")
    found = run(measure_transfer, transfer_job(made, tmp_path / "other"))
    assert found["images"] == 11
    assert found["measured_on"]["name"] == "folder"
    assert found["accuracy"] > 90  # stripes across and upright are easy to tell apart


def test_transfer_goes_by_class_names_not_by_numbers(made: World, tmp_path: Path) -> None:
    """`upright` is class 2 where it is trained and class 0 where it is tested."""
    write_images(tmp_path / "other", {"upright": 6}, seed=9)
    found = run(measure_transfer, transfer_job(made, tmp_path / "other"))
    assert found["accuracy"] > 90
