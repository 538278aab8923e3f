"""Predictions on files and Parquet equal what the run itself measured on the same images."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from typer.testing import CliRunner

from infra.cli.app import app
from infra.jobs.predict import predict
from infra.storage.runs import RunStore


@pytest.fixture(scope="module")
def trained(finished_run: RunStore) -> Path:
    (folder,) = Path(str(finished_run.training)).glob("curriculum-seed0-*")
    return folder


@pytest.fixture(scope="module")
def test_images(
    finished_run: RunStore, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, bytes]]:
    """(class, PNG) of the run's test images."""
    rows = pq.read_table(finished_run.real_manifest).to_pylist()
    wanted = {r["key"]: r["class_name"] for r in rows if r["split"] == "test"}
    tars = sorted(str(path) for path in Path(str(finished_run.real)).glob("*.tar"))
    stock = wds.WebDataset(tars, shardshuffle=False)
    return [(wanted[s["__key__"]], s["png"]) for s in stock if s["__key__"] in wanted]


def test_a_folder_and_a_parquet_file_give_the_runs_own_accuracy(
    trained: Path, test_images: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    metrics = json.loads((trained / "result.json").read_text())["metrics"]
    for number, (name, data) in enumerate(test_images):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name / f"{number}.png").write_bytes(data)
    table = pa.table(
        {
            "image": [
                {"bytes": data, "path": f"{n}.png"} for n, (_, data) in enumerate(test_images)
            ],
            "label": [int(name) for name, _ in test_images],
        }
    )
    pq.write_table(table, tmp_path / "photos.parquet")
    for images in ("photos", "photos.parquet"):
        out = tmp_path / "out.csv"
        words = ["predict", str(trained), str(tmp_path / images), "--output", str(out)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        rows = list(csv.DictReader(out.read_text().splitlines()))
        assert len(rows) == metrics["num_images"]
        right = sum(row["label"] == row["predicted"] for row in rows)
        assert 100 * right / len(rows) == pytest.approx(metrics["top1"])
        assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)


def test_images_without_a_known_class_or_that_cannot_be_read_are_rows(
    trained: Path, test_images: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(test_images[0][1])
    (tmp_path / "b.png").write_bytes(b"no image")
    first, second = predict(str(trained / "classifier.safetensors"), [str(tmp_path)], "cpu")
    bad, good = sorted((first, second), key=lambda one: not one.reason)
    assert (bad.reason, bad.predicted, bad.probability) == ("unreadable_image", "", None)
    assert good.label == ""
    assert good.predicted in set("0123456789")


@pytest.mark.parametrize(
    ("checkpoint", "image", "says"),
    [
        ("/no/such", None, "no classifier at /no/such"),
        (None, "/no/such.png", "/no/such.png: no such image"),
        (None, "http://169.254.169.254/x.png", "http"),
    ],
)
def test_mistakes_are_named(
    trained: Path, checkpoint: str | None, image: str | None, says: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["predict", checkpoint or str(trained), image or str(tmp_path)])
    assert done.exit_code == 2
    assert says in done.output
