"""A mistake of the user ends with code 2 and a message, before any work starts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from infra.cli.app import app
from infra.config import load_config
from infra.storage.runs import RunStore
from tests.infra.jobs.world import png, write_images

WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Class folders of digits 0 to 2: the embedded generator knows them."""
    write_images(tmp_path / "source")
    for name, digit in (("across", "0"), ("upright", "1"), ("rare", "2")):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.move(tmp_path / "source" / name, tmp_path / "images" / digit)
    return tmp_path / "images"


def discl(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env=WIDE)


def on_folder(folder: Path) -> list[str]:
    """Options that put the digits preset on class folders."""
    source = f"data.source={{name: folder, path: {folder}}}"
    return ["--preset", "digits", "-s", source, "-s", "data.long_tail=null"]


def refused(output: Path, *words: object) -> str:
    """The message of a command that must end before it has written anything."""
    ended = discl(*words, "--output", output)
    assert ended.exit_code == 2, ended.output
    assert not output.exists()
    assert ended.stdout == ""
    message: str = ended.stderr
    assert message.startswith("error ")
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("command", ["run", "generate", "train"])
@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ("generaton.levels=[0]", ["generaton: unknown key", "did you mean 'generation'?"]),
        ("generation.guidance=cgf", ["generation.guidance: 'cgf'", "did you mean 'cfg'?"]),
        ("generation.levels=[0, 120]", ["generation.levels.1: 120", "0..100"]),
        ("hard_set.threshold=1", ["the hard set is empty", "training images"]),
        ("generation.target={per_class: 1000000000}", ["GB will be written", "GB are free"]),
        ("training.epochs=3", ["training.epochs: 3", "at least 6 (5 levels, 1 on real data)"]),
        ("training.model=small_cnm", ["training.model: 'small_cnm'", "'small_cnn'"]),
        ("generation.num_inference_steps=4", ["generation.num_inference_steps: 4"]),
        ("generation.backbone.path=nowhere", ["'nowhere'", "'handwriting'"]),
    ],
)
def test_mistakes_in_the_config(
    tmp_path: Path, command: str, change: str, texts: list[str]
) -> None:
    message = refused(tmp_path / "run", command, "--preset", "digits", "-s", change)
    for text in texts:
        assert text in message


def test_many_mistakes_are_shown_together(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"source": "digts", "image_size": 0, "chanels": 1},
                "generation": {"levels": [0.5], "fit": {}},
                "curriculum": {"schedule": "mixd"},
            }
        )
    )
    message = refused(tmp_path / "run", "run", path)
    assert [line.removeprefix("error ").partition(":")[0] for line in message.splitlines()] == [
        "data.source",
        "data.image_size",
        "data.chanels",
        "generation.levels.0",
        "curriculum.schedule",
    ]


def test_a_config_file_that_is_not_there(tmp_path: Path) -> None:
    assert "no config file 'lost.yaml'" in refused(tmp_path / "run", "run", "lost.yaml")


def test_no_config_at_all(tmp_path: Path) -> None:
    assert "give a config file or --preset NAME" in refused(tmp_path / "run", "run")


def test_an_unknown_kind_of_workers(tmp_path: Path) -> None:
    message = refused(tmp_path / "run", "run", "--preset", "digits", "--workers", "dask")
    assert "workers.kind: 'dask' is not allowed; expected 'ray' or 'local'" in message


def test_a_missing_folder(tmp_path: Path) -> None:
    message = refused(tmp_path / "run", "run", *on_folder(tmp_path / "nowhere"))
    assert "data.source: path: " in message
    assert "no such folder" in message


def test_an_empty_class(images: Path, tmp_path: Path) -> None:
    (images / "3").mkdir()
    message = refused(tmp_path / "run", "run", *on_folder(images))
    assert "class folder '3' has no images" in message


def test_a_class_in_val_that_is_not_in_train(images: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(images, tmp_path / "split" / split)
    (tmp_path / "split" / "val" / "7").mkdir()
    (tmp_path / "split" / "val" / "7" / "a.png").write_bytes(png())
    message = refused(tmp_path / "run", "run", *on_folder(tmp_path / "split"))
    assert "class '7' is in the val split but has no image in train" in message


def test_a_data_set_of_one_image(tmp_path: Path) -> None:
    (tmp_path / "images" / "0").mkdir(parents=True)
    (tmp_path / "images" / "0" / "a.png").write_bytes(png())
    message = refused(tmp_path / "run", "run", *on_folder(tmp_path / "images"))
    assert "class '0' has 1 image(s), too few for a split" in message


def test_an_output_of_another_config(tmp_path: Path) -> None:
    other = load_config(None, "digits", ["training.seeds=77", "generation.levels=[3, 50]"])
    store = RunStore(tmp_path / "run")
    store.claim(other.identity(), update=False)
    before = store.config.read_bytes()
    ended = discl("run", "--preset", "digits", "-o", store.root)
    assert ended.exit_code == 2
    assert "belongs to another config; it differs in" in ended.stderr
    assert "training.seeds: 77 there, " in ended.stderr
    assert "generation.levels: [3, 50] there, [0, 20, 40, 60, 80] now" in ended.stderr
    assert "--update" in ended.stderr
    assert [path.name for path in store.root.iterdir()] == ["config.yaml"]
    assert store.config.read_bytes() == before


def test_an_output_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    ended = discl("run", "--preset", "digits", "-o", tmp_path / "run")
    assert ended.exit_code == 2
    assert "is not empty and not a run; choose another --output" in ended.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        ended = discl("run", "--preset", "digits", "-o", output)
        assert ended.exit_code == 2
        assert "cannot write" in ended.stderr


def test_the_wrong_command_for_a_preset(tmp_path: Path) -> None:
    assert "use `discl fit`" in refused(tmp_path / "run", "run", "--preset", "handwriting")
    assert "use `discl run`" in refused(tmp_path / "run", "fit", "--preset", "digits")


def test_a_generator_s_data_that_is_not_there(tmp_path: Path) -> None:
    path = "data.source.path=nowhere.npz"
    message = refused(tmp_path / "run", "fit", "--preset", "handwriting", "-s", path)
    assert "nowhere.npz" in message


def test_a_report_of_what_is_no_run(tmp_path: Path) -> None:
    ended = discl("report", tmp_path)
    assert ended.exit_code == 2
    assert "holds no finished run" in ended.stderr


def test_a_plan_of_a_bad_config() -> None:
    ended = discl("plan", "--preset", "digits", "-s", "hard_set.threshold=1")
    assert ended.exit_code == 2
    assert "the hard set is empty" in ended.stderr


CHECKS_ARE_LIGHT = """
import sys
from typer.testing import CliRunner
from infra.cli.app import app
words = ["run", "--preset", "digits", "-o", sys.argv[1], "-s", "hard_set.threshold=1"]
assert CliRunner().invoke(app, words).exit_code == 2
print(sorted({"prefect", "ray", "diffusers"} & set(sys.modules)))
"""


def test_mistakes_are_found_without_prefect_or_ray(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHECKS_ARE_LIGHT, str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
