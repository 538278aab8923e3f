"""The examples as users start them, on a finished run; counts against its manifest."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from infra.storage.runs import RunStore

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def started(name: str, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *words]
    outer = {**os.environ, "RAY_ADDRESS": "local", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=outer)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def judged(finished_run: RunStore, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """The finished run, as if the judges had refused every third image: rows change, no tar."""
    root = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(finished_run.root, root)
    path = root / "manifest.parquet"
    table = pq.read_table(path)
    status = ["ok" if number % 3 else "rejected" for number in range(len(table))]
    at = table.schema.get_field_index("status")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(status)), path)
    return RunStore(root)


@pytest.fixture(scope="module")
def accepted(judged: RunStore) -> list[str]:
    """Class names of the accepted images, one for each."""
    rows = pq.read_table(judged.root / "manifest.parquet").to_pylist()
    return [row["class_name"] for row in rows if row["status"] == "ok"]


@pytest.fixture(scope="module")
def training_images(judged: RunStore) -> int:
    rows = pq.read_table(judged.root / "real.parquet").to_pylist()
    return sum(row["split"] == "train" and row["status"] == "ok" for row in rows)


def test_webdataset_and_pytorch(
    judged: RunStore, accepted: list[str], training_images: int
) -> None:
    said = started("webdataset_pytorch.py", str(judged.root))
    epochs = re.findall(r"epoch (\d): (\d+) images, loss ([\d.]+)", said)
    assert [int(seen) for _, seen, _ in epochs] == [training_images + len(accepted)] * 2
    first, second = (float(loss) for _, _, loss in epochs)
    assert second < first


def test_hugging_face_datasets(judged: RunStore, accepted: list[str]) -> None:
    pytest.importorskip("datasets")
    said = started("hf_datasets.py", str(judged.root))
    counts = sorted(Counter(accepted).items())
    classes = ", ".join(f"{count} {name}" for name, count in counts)
    assert said == f"{len(accepted)} images: {classes}\n"


def test_ray_data(judged: RunStore, accepted: list[str]) -> None:
    assert f"{len(accepted)} images, mean value" in started("ray_data.py", str(judged.root))


def test_timm_train_reads_what_is_prepared(
    judged: RunStore, accepted: list[str], training_images: int, tmp_path: Path
) -> None:
    from timm.data import create_dataset  # type: ignore[attr-defined]

    said = started("timm_train.py", str(judged.root), str(tmp_path / "accepted"))
    assert said.startswith(f"python train.py --data-dir {tmp_path / 'accepted'} ")
    data = create_dataset(
        "wds/digits", root=str(tmp_path / "accepted"), split="train", batch_size=1
    )
    assert sum(1 for _ in data) == training_images + len(accepted)
    stock = wds.WebDataset(str(tmp_path / "accepted" / "test.tar"), shardshuffle=False)
    rows = pq.read_table(judged.root / "real.parquet").to_pylist()
    expected = {row["key"]: row["label"] for row in rows if row["split"] == "test"}
    assert {sample["__key__"]: int(sample["cls"]) for sample in stock} == expected


def test_following_a_finished_run_reads_all_of_it(judged: RunStore, accepted: list[str]) -> None:
    rows = pq.read_table(judged.root / "manifest.parquet").to_pylist()
    written = sum(row["member"] is not None for row in rows)
    said = started("follow_run.py", str(judged.root))
    assert said.endswith(f"{written} images, of which the judges accepted {len(accepted)}\n")
