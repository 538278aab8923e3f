"""A small finished run on disk: real digits, and noised copies of them as synthetic images."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from curriculum.evaluate import Metrics
from generators.records import GenerationRequest, SampleRecord, num_denoising_steps
from generators.registry import MethodSpec
from infra.config.schema import RunConfig
from infra.jobs.ingest import REAL_SCHEMA
from infra.report.facts import GenerationCost, RunFacts, SeedResult, StageTime
from infra.storage.manifest import apply_scores, commit_manifest, record_rows
from infra.storage.runs import RunStore
from infra.storage.shards import ShardMember, read_rows, write_shard

LEVELS = (0, 20, 40, 60, 80)
COUNTS = (30, 24, 20, 16, 12, 9, 6, 4, 3, 2)
UNREADABLE = "scans/b'roken <1>.png"


@dataclass(frozen=True, kw_only=True)
class Example:
    """What an example run is made of."""

    class_names: tuple[str, ...] = tuple("0123456789")
    counts: tuple[int, ...] = COUNTS
    few_below: int = 10
    many_above: int = 20
    per_class: int = 4
    judges: bool = True
    levels: tuple[int, ...] = LEVELS
    compare: dict[str, Any] = field(
        default_factory=lambda: {"mixed": {"schedule": {"name": "mixed", "real_percent": 10}}}
    )


def encode(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def config(example: Example) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "example",
            "data": {
                "source": "digits",
                "channels": 1,
                "image_size": 8,
                "few_below": example.few_below,
                "many_above": example.many_above,
            },
            "hard_set": {"name": "few_shot", "threshold": example.few_below},
            "generation": {
                "backbone": {"name": "pixel_unet", "path": "handwriting"},
                "levels": list(example.levels),
                "target": {"per_class": example.per_class},
                "num_inference_steps": 20,
            },
            "filter": {"judges": [{"name": "classifier", "min_probability": 0.5}]}
            if example.judges
            else {},
            "training": {"model": "small_cnn", "epochs": 20, "updates_per_epoch": 20},
            "curriculum": {"schedule": "fixed_stages", "tail_share": 0.5},
            "compare": example.compare,
        }
    )


def real_images(store: RunStore, example: Example) -> dict[str, tuple[int, NDArray[np.uint8]]]:
    """Stores training and test images; returns key to label and pixels of the training images."""
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)
    train: dict[str, tuple[int, NDArray[np.uint8]]] = {}
    for split, counts in (("train", example.counts), ("test", (2,) * len(example.counts))):
        members, rows = [], []
        for label, count in enumerate(counts):
            found = np.flatnonzero(digits.target == label % 10)
            chosen = found[:count] if split == "train" else found[-count:]
            for index in chosen.tolist():
                origin = f"digits#{index}-{label}"
                key = hashlib.sha256(origin.encode()).hexdigest()[:16]
                data = encode(pixels[index])
                info = {"key": key, "split": split}
                members.append(
                    ShardMember(key=key, image=data, extension="png", label=label, info=info)
                )
                rows.append(real_row(key, split, label, example, origin, data))
                if split == "train":
                    train[key] = (label, pixels[index])
        if split == "train":
            bad = real_row("f" * 16, split, 3, example, UNREADABLE, b"")
            reason = {"reason": "unreadable_image", "detail": "cannot identify <image>"}
            rows.append({**bad, "status": "failed", **reason})
        table = pa.Table.from_pylist(rows, schema=REAL_SCHEMA)
        write_shard(store.real, f"{split}-0", members, table)
    tables = [read_rows(store.real, f"{split}-0") for split in ("train", "test")]
    commit_manifest(store.real_manifest, tables, ("split", "label", "key"))
    return train


def real_row(
    key: str, split: str, label: int, example: Example, origin: str, data: bytes
) -> dict[str, object]:
    return {
        "key": key,
        "split": split,
        "label": label,
        "class_name": example.class_names[label],
        "origin": origin,
        "sha256": hashlib.sha256(data).hexdigest(),
        "status": "ok",
        "reason": "",
        "detail": "",
    }


def synthetic_images(
    store: RunStore, example: Example, train: dict[str, tuple[int, NDArray[np.uint8]]]
) -> None:
    """Stores noised copies of hard images; with judges, noisy ones are refused by their score."""
    rng = np.random.default_rng(0)
    tables = []
    for level in example.levels:
        members, records, scores = [], [], []
        for request in _requests(example, train, level):
            failed = level == 0 and len(records) == 0
            records.append(
                SampleRecord(
                    key=request.key,
                    request=request,
                    num_model_calls=2 * num_denoising_steps(20, level),
                    status="failed" if failed else "ok",
                    reason="not_finite" if failed else "",
                )
            )
            if failed:
                continue
            source = train[request.source_key][1].astype(float)
            share = (100 - level) / 100
            mates = [p for label, p in train.values() if label == request.label]
            mate = mates[rng.integers(len(mates))]
            mixed = source * (1 - share) + mate * share + rng.normal(0, 60 * share, source.shape)
            data = encode(mixed.clip(0, 255).round().astype(np.uint8))
            info = {"key": request.key, "image_guidance": level}
            members.append(
                ShardMember(
                    key=request.key, image=data, extension="png", label=request.label, info=info
                )
            )
            probability = float(1 - share * rng.uniform(0, 0.9))
            similarity = float(1 - share * rng.uniform(0.1, 0.6))
            scores.append((request.key, probability, similarity))
        name = f"g{level:03d}-example"
        write_shard(store.generated, name, members, record_rows(records))
        rows = read_rows(store.generated, name)
        tables.append(_judged(rows, scores) if example.judges else rows)
    commit_manifest(store.manifest, tables)


def _judged(rows: pa.Table, scores: Sequence[tuple[str, float, float]]) -> pa.Table:
    table = pa.table(
        {
            "key": [key for key, _, _ in scores],
            "classifier_probability": [probability for _, probability, _ in scores],
            "classifier_similarity": [similarity for _, _, similarity in scores],
        }
    )
    decisions = {
        key: "" if probability >= 0.5 else "low_class_probability" for key, probability, _ in scores
    }
    return apply_scores(rows, table, decisions)


def _requests(
    example: Example, train: dict[str, tuple[int, NDArray[np.uint8]]], level: int
) -> list[GenerationRequest]:
    requests = []
    for label, count in enumerate(example.counts):
        if count >= example.few_below:
            continue
        keys = [key for key, (other, _) in train.items() if other == label]
        for index in range(example.per_class):
            requests.append(
                GenerationRequest(
                    source_key=keys[index % len(keys)],
                    source_sha256="0" * 64,
                    label=label,
                    class_name=example.class_names[label],
                    prompt=f"a photo of a {example.class_names[label]}",
                    image_guidance=level,
                    seed=index // len(keys),
                    num_inference_steps=20,
                    guidance=MethodSpec(name="cfg"),
                    sampler=MethodSpec(name="ddim"),
                    backbone="example",
                )
            )
    return requests


def metrics(few: float, many: float = 96.0, shots: Sequence[str] = ()) -> Metrics:
    """Metrics of which `few` and `many` are given; medium is in between, as are the classes."""
    medium = (few + many) / 2
    by_kind = {"few": few, "medium": medium, "many": many}
    per_class = tuple(min(100.0, by_kind[kind] + label % 3 - 1) for label, kind in enumerate(shots))
    present = set(shots)
    return Metrics(
        top1=sum(per_class) / len(per_class),
        balanced_accuracy=sum(per_class) / len(per_class),
        many=many if "many" in present else None,
        medium=medium if "medium" in present else None,
        few=few if "few" in present else None,
        macro_f1=medium - 0.5,
        ece=(100 - medium) / 400,
        per_class=per_class,
        num_images=20,
    )


def shots(example: Example) -> tuple[str, ...]:
    return tuple(
        "many" if n > example.many_above else "few" if n < example.few_below else "medium"
        for n in example.counts
    )


def facts(example: Example, few: dict[str, Sequence[float]]) -> RunFacts:
    """Facts of a run whose arms reach these few-shot accuracies, one a seed."""
    kinds = shots(example)
    arms = {}
    for arm, values in few.items():
        arms[arm] = tuple(
            SeedResult(
                seed=seed,
                metrics=metrics(value, 96.0 + 0.1 * seed, kinds),
                losses=tuple(
                    2.0 / (1 + epoch * (1.2 if arm == "baseline" else 0.8)) + 0.02 * seed
                    for epoch in range(20)
                ),
            )
            for seed, value in enumerate(values)
        )
    return RunFacts(
        config=config(example),
        command="discl run --preset digits --output runs/example",
        machine={"cpu": "Example CPU", "cores": "2", "memory": "8 GB", "devices": "cpu"},
        versions={"python": "3.11", "torch": "2.9"},
        generator_card={
            "knowledge": "Handwritten digits of MNIST, 60,000 images of other writers.",
            "class_names": list("0123456789"),
            "images": 60000,
            "seconds": 312.4,
            "fit": {"seed": 0},
            "losses": [[step, 0.9 / (1 + step / 200) + 0.05] for step in range(50, 2501, 50)],
            "knowledge_alone": {
                "accuracy": 95.1,
                "measured_on": {"name": "digits"},
                "images": 1797,
            },
        },
        class_names=example.class_names,
        class_counts=example.counts,
        shots=kinds,
        arms=arms,
        stages=(
            StageTime(stage="ingest", seconds=2.0, units=146, unit="images"),
            StageTime(stage="generate", seconds=15.5, units=100, unit="images"),
            StageTime(stage="train", seconds=88.25, units=12, unit="classifiers"),
        ),
        cost=GenerationCost(
            images=99,
            model_calls=2400,
            seconds=15.0,
            bare_seconds=12.0,
            batch_fill=0.93,
            batch_size=16,
            queue=29.5,
            stages={"decode": 0.5, "encode": 1.0, "network": 12.5, "write": 0.25},
        ),
    )


def make(root: Path, example: Example) -> RunStore:
    """Writes the shards and manifests of a run."""
    store = RunStore(root)
    synthetic_images(store, example, real_images(store, example))
    return store
