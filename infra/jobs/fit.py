"""Trains a generator on ingested images and publishes it as a folder; resumes after a kill."""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass

import torch

from curriculum.loader import TensorImages
from generators.fit import Fit, StepReport
from generators.fit_spec import FitSpec
from generators.places import Place, file_exists
from generators.registry import JsonValue, content_hash
from infra.config.schema import DataConfig
from infra.jobs.dataset import open_dataset, pixel_format
from infra.jobs.images import StoredImages
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from infra.storage.files import remove, written_locally
from infra.storage.runs import RunStore
from infra.workers.base import Progress, WorkerContext

REPORT_EVERY = 10
"""Updates."""
SAVE_SECONDS = 60.0
"""Between two checkpoints, at least."""
MOST_SAVING = 0.05
"""Of the time; large states in object stores take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitGenerator:
    """A generator to train on the training split of a store.

    Attributes:
        spec: architecture and training.
        data: how the images were ingested.
        data_hash: of the ingested images.
        store: where they are.
        folder: where the generator goes.
        facts: for its card: what it knows, in words.
    """

    spec: FitSpec
    data: DataConfig
    data_hash: str
    store: RunStore
    folder: Place
    facts: dict[str, JsonValue]


def fit_folder(store: RunStore, spec: FitSpec, data_hash: str) -> Place:
    """Same training on the same images, same folder."""
    return store.generators / f"fit-{content_hash([asdict(spec), data_hash], 16)}"


def fit_generator(context: WorkerContext, job: FitGenerator) -> Generator[Progress, None, Place]:
    """Trains to the end; `card.json`, written last, marks a finished generator."""
    if file_exists(job.folder / "card.json"):
        yield Progress(done=job.spec.steps, total=job.spec.steps)
        return job.folder
    dataset = open_dataset(job.data, job.store.real_manifest)
    folders = (job.store.real, job.store.generated)
    stored = StoredImages(
        dataset.split("train"), None, folders, pixel_format(job.data), frozenset()
    )
    images = TensorImages.load(stored)
    labels = torch.from_numpy(images.rows.labels)
    fit = Fit(job.spec, images.images, labels, len(dataset.class_names), context.device)
    checkpoint = job.folder / "checkpoint.pt"
    losses, before = _restore(fit, checkpoint)
    started = time.perf_counter()
    with closing(_saved(fit, losses, before, checkpoint)) as reports:
        for report in reports:
            yield Progress(done=report.step, total=report.steps)
    card: dict[str, JsonValue] = {
        **job.facts,
        "class_names": list(dataset.class_names),
        "fit": asdict(job.spec),
        "data": job.data.source.name,  # not its path: cards travel
        "images": len(labels),
        "losses": losses,
        "seconds": round(before + time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with written_locally(job.folder, last="card.json") as folder:
        fit.save(folder, card)
    remove(checkpoint)
    return job.folder


def _saved(
    fit: Fit, losses: list[list[float]], before: float, path: Place
) -> Generator[StepReport, None, None]:
    """The steps of a fit; now and then, and where it is stopped, its state is written."""
    started = saved = time.perf_counter()
    pause = SAVE_SECONDS
    try:
        for report in fit.run(REPORT_EVERY):
            losses.append([report.step, round(report.loss, 5)])
            now = time.perf_counter()
            if now - saved >= pause:
                _save(fit, losses, before + now - started, path)
                saved = time.perf_counter()
                pause = max(SAVE_SECONDS, (saved - now) / MOST_SAVING)
            yield report
    except GeneratorExit:
        _save(fit, losses, before + time.perf_counter() - started, path)
        raise


def _save(fit: Fit, losses: list[list[float]], seconds: float, path: Place) -> None:
    save_checkpoint(path, {"fit": fit.state(), "losses": losses, "seconds": seconds})


def _restore(fit: Fit, path: Place) -> tuple[list[list[float]], float]:
    if not file_exists(path):
        return [], 0.0
    saved = load_checkpoint(path)
    fit.restore(saved["fit"])
    return saved["losses"], saved["seconds"]
