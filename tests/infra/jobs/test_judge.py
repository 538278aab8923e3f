"""Scores of synthetic images: in a file of their own, once."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from generators.classifier_file import ClassifierInfo, load_classifier, save_classifier
from generators.classifiers import SmallCnn, create_classifier
from generators.errors import ConfigError
from infra.jobs.dataset import pixel_format
from infra.jobs.images import read_pixels
from infra.jobs.judge import JudgeShard, judge_shard
from infra.storage.shards import ShardReader, file_sha256, read_rows
from tests.infra.jobs.world import World, contents, context, method, run


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of the world's classes."""
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_classifier("small_cnn", 3, 1, image_size=(8, 8))
    names = ("across", "rare", "upright")
    info = ClassifierInfo(model="small_cnn", class_names=names, channels=1, image_size=(8, 8))
    save_classifier(path, network, info)
    assert isinstance(network, SmallCnn)
    return path


@pytest.fixture
def job(made: World, classifier: Path, tmp_path: Path) -> JudgeShard:
    return JudgeShard(
        name=next(s.name for s in made.shards if s.requests[0].image_guidance == 100),
        judge=method("classifier"),
        class_names=made.dataset.class_names,
        classifier=classifier,
        classifier_hash=file_sha256(classifier),
        folder=made.store.generated,
        real_folder=made.store.real,
        sources=made.dataset.locations(),
        form=pixel_format(made.config.data),
        scores=tmp_path / "scores",
    )


def test_every_image_has_its_own_scores(made: World, job: JudgeShard, classifier: Path) -> None:
    path = run(judge_shard, job)
    assert path == job.path
    scores = {row["key"]: row for row in pq.read_table(path).to_pylist()}
    rows = read_rows(made.store.generated, job.name).to_pylist()
    assert set(scores) == {row["key"] for row in rows}
    model, info = load_classifier(classifier)
    reader = ShardReader(made.store.generated)
    for row in rows:
        pixels = read_pixels(reader, row, job.form)[None].float() / 255
        with torch.inference_mode():
            probability = model(info.normalization.apply(pixels)).softmax(1)[0, 1]
        found = scores[row["key"]]
        assert found["classifier_probability"] == pytest.approx(float(probability), abs=1e-4)
        assert found["classifier_similarity"] == pytest.approx(1, abs=1e-5)  # its source itself
        assert found["refused"] == ""


def test_refusals_carry_the_judge_s_reason(job: JudgeShard) -> None:
    unsure = replace(job, judge=method("classifier", min_probability=1.0))
    near = replace(job, judge=method("classifier", max_similarity=0.9))
    for strict, reason in ((unsure, "low_class_probability"), (near, "too_close_to_source")):
        refused = pq.read_table(run(judge_shard, strict)).column("refused").to_pylist()
        assert set(refused) == {reason}


def test_judging_again_does_no_work_and_never_touches_a_shard(made: World, job: JudgeShard) -> None:
    before = contents(made.store.generated)
    path = run(judge_shard, job)
    written = path.stat().st_mtime_ns
    worker = context()
    assert run(judge_shard, job, worker=worker) == path
    assert worker.models == {}
    assert path.stat().st_mtime_ns == written
    assert contents(made.store.generated) == before


def test_other_judges_and_classifiers_have_other_files(job: JudgeShard) -> None:
    paths = {
        job.path,
        replace(job, judge=method("classifier", min_probability=0.1)).path,
        replace(job, classifier_hash="other").path,
        replace(job, name="g000-other").path,
    }
    assert len(paths) == 4
    assert replace(job, scores=job.scores).path == job.path


def test_a_classifier_of_other_classes_is_refused(job: JudgeShard) -> None:
    other = replace(job, class_names=("a", "b", "c"))
    with pytest.raises(ConfigError, match="across"):
        run(judge_shard, other)
    assert not job.scores.exists()
