"""Laws of every judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.filters.base import JudgeContext
from generators.registry import MethodSpec, build, describe, names

CLASS_NAMES = ("cat", "red fox", "wolf")
REQUIRED: dict[str, dict[str, Any]] = {
    "classifier": {},
    "confident": {},
    "distribution": {},
    "timm": {"classes": ["a"]},
    "clip": {"path": "x"},
    "safety": {"path": "x"},
}
"""Parameters without a default; a new judge with some adds its own here."""

PERMISSIVE: dict[str, dict[str, Any]] = {
    "confident": {"max_margin": 1.0},
    "safety": {"max_score": 1.0},
}
"""Of a judge that has a decision of its own: the settings that refuse nothing."""

THRESHOLDS = [
    (name, parameter.name)
    for name in names("filter")
    for parameter in describe("filter", name).parameters
    if parameter.name.startswith(("min_", "max_"))
]


def judge_of(name: str, **params: Any) -> Any:
    return build("filter", MethodSpec(name=name, params={**REQUIRED.get(name, {}), **params}))


def random_scores(name: str, count: int = 300) -> list[dict[str, float]]:
    """Rows of scores on a grid of twentieths, so that some fall on the threshold itself."""
    columns = judge_of(name).columns
    generator = torch.Generator().manual_seed(4)
    values = torch.randint(0, 21, (count, len(columns)), generator=generator) / 20
    return [dict(zip(columns, row.tolist(), strict=True)) for row in values]


@pytest.mark.parametrize("name", names("filter"))
def test_every_threshold_is_declared_and_columns_name_their_judge(name: str) -> None:
    columns = judge_of(name).columns

    assert len(set(columns)) == len(columns) >= 1
    assert all(column.startswith(f"{name}_") for column in columns)
    assert {judge for judge, _ in THRESHOLDS} >= {name}


@pytest.mark.parametrize("name", names("filter"))
def test_defaults_refuse_nothing_but_what_is_not_finite(name: str) -> None:
    judge = judge_of(name, **PERMISSIVE.get(name, {}))

    assert {judge.refuse(row) for row in random_scores(name)} == {""}
    for column in judge.columns:
        broken = {**random_scores(name)[0], column: float("nan")}
        assert judge.refuse(broken) == "score_not_finite"


@pytest.mark.parametrize(("name", "threshold"), THRESHOLDS)
def test_a_threshold_keeps_exactly_the_scores_on_its_side(name: str, threshold: str) -> None:
    """min_x = t keeps scores >= t, max_x = t keeps scores <= t, of one column."""
    rows = random_scores(name)
    judge = judge_of(name, **{threshold: 0.5})
    kept = [judge.refuse(row) == "" for row in rows]
    low = threshold.startswith("min_")
    explained = [
        column
        for column in judge.columns
        if kept == [(row[column] >= 0.5) if low else (row[column] <= 0.5) for row in rows]
    ]

    assert len(explained) == 1
    assert any(row[explained[0]] == 0.5 for row in rows)
    reasons = {judge.refuse(row) for row in rows} - {""}
    assert len(reasons) == 1
    assert reasons.pop().replace("_", "").isalpha()


@pytest.mark.parametrize(("name", "threshold"), THRESHOLDS)
def test_a_stricter_threshold_never_keeps_more(name: str, threshold: str) -> None:
    others = {key: 0.3 for judge, key in THRESHOLDS if judge == name and key.startswith("min_")}
    grid = [step / 10 for step in range(11)]
    if threshold.startswith("max_"):
        grid.reverse()
    kept_before = set(range(300))
    for value in grid:
        judge = judge_of(name, **{**others, threshold: value})
        rows = enumerate(random_scores(name))
        kept = {index for index, row in rows if judge.refuse(row) == ""}
        assert kept <= kept_before
        kept_before = kept


@pytest.fixture
def load(tiny_classifier_file: Path, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Loads a judge with tiny real files; a new judge adds its own here."""
    context = JudgeContext(class_names=CLASS_NAMES, classifier=tiny_classifier_file, device="cpu")

    def build_and_load(name: str) -> Any:
        params: dict[str, Any] = {}
        if name == "timm":
            folder = request.getfixturevalue("tiny_timm_folder")
            params = {"weights": str(folder), "classes": [*CLASS_NAMES, "x", "y"]}
        if name == "clip":
            params = {"path": str(request.getfixturevalue("tiny_clip_folder"))}
        if name == "safety":
            params = {"path": str(request.getfixturevalue("tiny_safety_folder"))}
        return judge_of(name, **params).load(context)

    return build_and_load


@pytest.mark.parametrize("name", names("filter"))
def test_order_and_company_of_rows_do_not_matter(name: str, load: Callable[[str], Any]) -> None:
    judge = load(name)
    generator = torch.Generator().manual_seed(8)
    count = 70  # more than one chunk
    pixels, sources = (
        torch.randint(0, 256, (count, 3, 12, 12), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    )
    labels = torch.randint(0, 3, (count,), generator=generator)
    order = torch.randperm(count, generator=generator)

    straight = judge.score(pixels, sources, labels)
    shuffled = judge.score(pixels[order], sources[order], labels[order])
    few = judge.score(pixels[65:67], sources[65:67], labels[65:67])

    assert tuple(straight) == judge_of(name).columns
    for column, values in straight.items():
        assert values.shape == (count,)
        assert values.dtype == torch.float32
        assert values.std() > 0
        torch.testing.assert_close(values[order], shuffled[column], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(values[65:67], few[column], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", names("filter"))
def test_no_rows_give_no_scores_and_the_source_is_not_changed(
    name: str, load: Callable[[str], Any]
) -> None:
    judge = load(name)
    pixels = torch.full((2, 3, 12, 12), 7, dtype=torch.uint8)
    judge.score(pixels, pixels, torch.tensor([0, 1]))
    empty = judge.score(pixels[:0], pixels[:0], torch.zeros(0, dtype=torch.int64))

    assert (pixels == 7).all()
    assert all(len(values) == 0 for values in empty.values())
