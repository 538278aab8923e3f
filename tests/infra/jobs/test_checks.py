"""What would stop a run later is found before any work: field, value, what is allowed."""

import shutil
from pathlib import Path

import pytest

from generators.errors import ConfigError, DataError, OutputError, UserError
from infra.config import FitConfig
from infra.config.load import validate
from infra.jobs.checks import check_fit, check_run
from infra.storage.runs import RunStore
from tests.infra.jobs.world import World, config_for, png, write_images


def complaint(images: Path, output: Path, *changes: str) -> UserError:
    with pytest.raises(UserError) as caught:
        check_run(config_for(images, *changes), RunStore(output))
    assert not output.exists()
    return caught.value


def test_a_good_run_passes_and_writes_nothing(image_folder: Path, tmp_path: Path) -> None:
    check_run(config_for(image_folder), RunStore(tmp_path / "deep" / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ("training.epochs=2", "training.epochs", "at least 4 (3 levels, 1 on real data)"),
        ("training.model=resnet19", "training.model", "resnet18"),
        ("generation.levels=[40, 50]", "generation.levels", "40 and 50 both"),
        ("generation.levels=[90]", "generation.num_inference_steps", "level 90 of 4"),
    ],
)
def test_settings_that_do_not_fit_each_other(
    image_folder: Path, tmp_path: Path, change: str, field: str, allowed: str
) -> None:
    changes = [change]
    if field == "generation.levels":
        changes.append("generation.num_inference_steps=2")
    error = complaint(image_folder, tmp_path / "run", *changes)
    assert isinstance(error, ConfigError)
    assert error.field == field
    assert allowed in error.allowed


def test_a_missing_folder(tmp_path: Path) -> None:
    error = complaint(tmp_path / "nowhere", tmp_path / "run")
    assert isinstance(error, DataError)
    assert str(error).startswith("data.source: path: ")
    assert "no such folder" in str(error)


def test_an_empty_class(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    (tmp_path / "images" / "wolf").mkdir()
    error = complaint(tmp_path / "images", tmp_path / "run")
    assert str(error) == "data.source: path: class folder 'wolf' has no images"


def test_a_class_in_val_that_is_not_in_train(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_images(tmp_path / "images" / split)
    (tmp_path / "images" / "val" / "wolf").mkdir()
    (tmp_path / "images" / "val" / "wolf" / "1.png").write_bytes(png())
    error = complaint(tmp_path / "images", tmp_path / "run")
    assert "class 'wolf'" in str(error)
    assert "val" in str(error)
    assert "train" in str(error)


def test_one_image(tmp_path: Path) -> None:
    write_images(tmp_path / "images", {"rare": 1})
    error = complaint(tmp_path / "images", tmp_path / "run")
    assert "class 'rare' has 1 image" in str(error)


def test_one_class(tmp_path: Path) -> None:
    write_images(tmp_path / "images", {"rare": 9})
    error = complaint(tmp_path / "images", tmp_path / "run")
    assert str(error) == "data.source: a classifier needs at least 2 classes, found ('rare',)"


def test_zero_hard_images(image_folder: Path, tmp_path: Path) -> None:
    error = complaint(image_folder, tmp_path / "run", "hard_set.threshold=3")
    assert "the hard set is empty" in str(error)


def test_a_target_that_asks_for_nothing(image_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(image_folder / "across", tmp_path / "even" / name)
    changes = ("hard_set.threshold=100", "data.many_above=100", "generation.target=match_many")
    error = complaint(tmp_path / "even", tmp_path / "run", *changes)
    assert "nothing to generate" in str(error)
    check_run(config_for(image_folder, *changes), RunStore(tmp_path / "run"))


def test_no_disk_space(image_folder: Path, tmp_path: Path) -> None:
    error = complaint(image_folder, tmp_path / "run", "generation.target={per_class: 1000000000}")
    assert isinstance(error, OutputError)
    assert "GB will be written" in str(error)


def test_what_is_there_already_needs_no_space(made: World) -> None:
    there = sum(path.stat().st_size for path in made.store.root.rglob("*.tar"))
    free = shutil.disk_usage(made.store.root).free
    made.store.require_space(free + there // 2)
    with pytest.raises(OutputError):
        made.store.require_space(free + there + 2**33)


def test_a_hard_set_known_only_later_does_not_stop_the_checks(
    image_folder: Path, tmp_path: Path
) -> None:
    check_run(config_for(image_folder, "hard_set=low_confidence"), RunStore(tmp_path / "run"))


def fit_config(images: Path, **changes: object) -> FitConfig:
    data = {
        "data": {
            "source": {"name": "folder", "path": str(images)}, "channels": 1, "image_size": 8
        },
        "training": {"model": "small_cnn"},
        **changes,
    }  # fmt: skip
    return validate(FitConfig, data)


def test_a_generator_s_data_is_checked_too(image_folder: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    source = {"name": "folder", "path": str(image_folder)}
    check_fit(fit_config(image_folder, transfer=source), store)
    with pytest.raises(DataError, match="no such folder"):
        check_fit(fit_config(tmp_path / "nowhere"), store)
    with pytest.raises(ConfigError) as caught:
        check_fit(fit_config(image_folder, transfer="digits"), store)
    assert (caught.value.field, caught.value.value) == ("transfer", "0")
    assert not store.root.exists()
