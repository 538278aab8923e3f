"""The main job end to end on the local pool, with a real Prefect server and real files."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest
from rich.console import Console

from generators.backbones.pixel_unet import PixelUnet
from generators.records import GenerationRequest
from infra.jobs.dataset import open_dataset
from infra.progress import LogBoard
from infra.storage.check import check_store
from infra.storage.manifest import GENERATED_SCHEMA, read_manifest
from infra.storage.runs import RunStore
from infra.storage.shards import ShardReader
from tests.infra.storage.stock_readers import (
    expected_for_timm,
    read_with_datasets,
    read_with_ray,
    read_with_timm,
    read_with_webdataset,
)
from tests.support.tiny_run import shard_bytes, tiny_config


def test_manifest_has_a_row_for_every_request(finished_run: RunStore) -> None:
    config = tiny_config()
    rows = read_manifest(finished_run.manifest)
    hard_classes = 7  # those below the preset's threshold of 30
    assert rows.num_rows == len(config.generation.levels) * 8 * hard_classes
    assert set(rows["status"].to_pylist()) <= {"ok", "filtered", "failed"}
    for row in rows.to_pylist():
        request = GenerationRequest.from_json(json.loads(row["request"]))
        assert request.key == row["key"]
        assert (row["reason"] == "") == (row["status"] == "ok")


def test_model_evaluations_are_what_the_levels_cost(finished_run: RunStore) -> None:
    rows = read_manifest(finished_run.manifest)
    calls = {
        level: set(
            rows.filter(pc.equal(rows["image_guidance"], level))["num_model_calls"].to_pylist()
        )
        for level in (0, 40, 100)
    }
    # 5 steps, two evaluations each under guidance; level 40 runs 5 * 60 // 100 = 3 of them.
    assert calls == {0: {10}, 40: {6}, 100: {0}}


def test_full_guidance_stores_the_source_itself(finished_run: RunStore) -> None:
    from infra.jobs.images import PixelFormat, read_pixels

    rows = read_manifest(finished_run.manifest)
    locations = open_dataset(tiny_config().data, finished_run.real_manifest).locations()
    form = PixelFormat(channels=1, image_size=8)
    made, real = ShardReader(finished_run.generated), ShardReader(finished_run.real)
    copies = rows.filter(pc.equal(rows["image_guidance"], 100)).to_pylist()
    assert copies
    for row in copies:
        source = read_pixels(real, locations[row["source_key"]], form)
        assert read_pixels(made, row, form).equal(source)


def test_sources_are_training_images_of_the_same_class(finished_run: RunStore) -> None:
    real = read_manifest(finished_run.real_manifest)
    train = real.filter(pc.equal(real["split"], "train"))
    label_of = dict(zip(train["key"].to_pylist(), train["label"].to_pylist(), strict=True))
    for row in read_manifest(finished_run.manifest).to_pylist():
        assert label_of[row["source_key"]] == row["label"]


def test_store_is_sound(finished_run: RunStore) -> None:
    names = sorted(path.stem for path in finished_run.generated.glob("*.tar"))
    assert names
    assert check_store(finished_run.generated, names) == []


def test_stock_readers_load_every_sample(finished_run: RunStore, tmp_path: Path) -> None:
    rows = read_manifest(finished_run.manifest)
    made = rows.filter(pc.not_equal(rows["member"], "")).to_pylist()
    expected = {row["key"]: row["label"] for row in made}
    names = sorted({row["shard"] for row in made})
    assert read_with_webdataset(finished_run.generated, names) == expected
    assert read_with_datasets(finished_run.generated, names, tmp_path) == expected
    reader = ShardReader(finished_run.generated)
    stored = [(row["label"], reader.read(row["shard"], row["offset"], row["size"])) for row in made]
    assert read_with_timm(finished_run.generated, "train") == expected_for_timm(stored)


@pytest.mark.slow
def test_ray_data_loads_every_sample(finished_run: RunStore) -> None:
    import ray

    rows = read_manifest(finished_run.manifest)
    made = rows.filter(pc.not_equal(rows["member"], "")).to_pylist()
    names = sorted({row["shard"] for row in made})
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        found = read_with_ray(finished_run.generated, names)
    finally:
        ray.shutdown()
    assert found == {row["key"]: row["label"] for row in made}


@pytest.mark.slow
def test_own_generator_and_hard_images_by_confidence(prefect_harness: None, tmp_path: Path) -> None:
    from flows.run import run

    config = tiny_config(
        "generation.backbone=null",
        "generation.fit={steps: 20, batch_size: 16, block_out_channels: [8, 16]}",
        "hard_set={name: low_confidence, fraction: 0.2}",
        "generation.target={factor: 0.5}",
        "generation.levels=[0, 60]",
    )
    store = RunStore(tmp_path / "output")
    result = run(config, str(store.root))
    rows = read_manifest(store.manifest)
    real = read_manifest(store.real_manifest)
    train = real.filter(pc.equal(real["split"], "train"))
    hard = set(rows["source_key"].to_pylist())
    assert hard <= set(train["key"].to_pylist())
    assert len(hard) <= round(0.2 * train.num_rows) + 1
    (folder,) = store.generators.iterdir()
    assert set(rows["backbone"].to_pylist()) == {
        PixelUnet(path=str(folder)).load("cpu").fingerprint
    }
    assert "nothing beyond" in json.loads((folder / "card.json").read_text())["knowledge"]
    assert result["images"]["requested"] == rows.num_rows


def test_result_and_report(finished_run: RunStore) -> None:
    result = json.loads(finished_run.result.read_text())
    assert result == json.loads((finished_run.report / "result.json").read_text())
    assert set(result["arms"]) == {"baseline", "curriculum", "mixed"}
    assert result["seeds"] == 2
    few = [seed["few"] for seed in result["arms"]["curriculum"]["seeds"]]
    assert result["curriculum"]["few"] == pytest.approx(sum(few) / 2)
    rows = read_manifest(finished_run.manifest)
    assert result["images"]["requested"] == rows.num_rows
    assert result["images"]["accepted"] == pc.sum(pc.equal(rows["status"], "ok")).as_py()
    page = (finished_run.report / "index.html").read_text()
    assert "<html" in page
    assert "discl run tiny.yaml" in page


@pytest.fixture
def shown() -> Iterator[Callable[[str], str]]:
    """The last count that was shown of a stage, e.g. `3/20 images`."""
    from tasks.runtime import BOARD

    stream = io.StringIO()
    token = BOARD.set(LogBoard(Console(file=stream), every=0))
    yield lambda stage: re.findall(rf"^{stage}: (\d+/\d+ \w+)", stream.getvalue(), re.M)[-1]
    BOARD.reset(token)


def test_again_changes_nothing_and_shows_what_is_there(
    finished_run: RunStore, shown: Callable[[str], str]
) -> None:
    from flows.run import run

    before = shard_bytes(finished_run)
    manifest = finished_run.manifest.read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in finished_run.training.rglob("result.json")}
    assert len(stamps) == 3 * 2
    finished_run.result.unlink()  # or nothing is done at all
    run(tiny_config(), str(finished_run.root))
    assert shard_bytes(finished_run) == before
    assert finished_run.manifest.read_bytes() == manifest
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    images = f"{3 * 8 * 7}/{3 * 8 * 7} images"
    assert (shown("generate"), shown("judge")) == (images, images)
    assert shown("train classifiers") == f"{4 * 2 * 3}/{4 * 2 * 3} epochs"


def test_a_finished_run_says_so_and_does_nothing(finished_run: RunStore) -> None:
    from flows.run import run

    stamps = {path: path.stat().st_mtime_ns for path in finished_run.root.rglob("*")}
    state = run(tiny_config(), str(finished_run.root), return_state=True)
    assert state.message.endswith("this run is finished; nothing was done again")
    assert state.result() == json.loads(finished_run.result.read_text())
    assert {path: path.stat().st_mtime_ns for path in finished_run.root.rglob("*")} == stamps


def test_real_images_alone_need_no_generator(finished_run: RunStore, tmp_path: Path) -> None:
    from flows.run import run

    changes = (
        "generation={}",
        "curriculum={schedule: none, sampling: class_balanced}",
        "compare={bs: {schedule: none, loss: balanced_softmax}}",
        "hard_set.threshold=1",
    )
    store = RunStore(tmp_path / "real")
    result = run(tiny_config(*changes), str(store.root))
    assert set(result["arms"]) == {"baseline", "curriculum", "bs"}
    manifest = read_manifest(store.manifest)
    assert (manifest.num_rows, manifest.schema.names) == (0, GENERATED_SCHEMA.names)
    assert {stage for stage, *_ in json.loads(store.stages.read_text())} == {
        *("read real images", "train judge", "judge", "train classifiers", "write report")
    }
    ours, theirs = (
        {path.parent.name: path.read_bytes() for path in each.training.rglob("*.safetensors")}
        for each in (store, finished_run)
    )
    same = [name for name in ours if name.startswith("baseline-")]
    assert len(same) == 2
    assert all(ours[name] == theirs[name] for name in same)  # what else a run does, they are equal
    page = (store.report / "index.html").read_text()
    assert "none: real images alone" in page
    assert not [name for name in ("images", "levels", "generator") if f'id="{name}"' in page]


def test_a_lost_shard_is_made_again_with_the_same_bytes(
    finished_run: RunStore, shown: Callable[[str], str]
) -> None:
    from flows.generate import generate

    before = shard_bytes(finished_run)
    victims = sorted(finished_run.generated.glob("g040-*.parquet"))
    for path in victims[:2]:
        path.unlink()
    generate(tiny_config(), str(finished_run.root))
    assert shard_bytes(finished_run) == before
    assert shown("generate") == f"{3 * 8 * 7}/{3 * 8 * 7} images"


def test_a_second_run_makes_the_same_bytes(
    prefect_harness: None, finished_run: RunStore, tmp_path: Path
) -> None:
    from flows.generate import generate

    store = RunStore(tmp_path / "second")
    generate(tiny_config(), str(store.root))
    assert shard_bytes(store) == shard_bytes(finished_run)
