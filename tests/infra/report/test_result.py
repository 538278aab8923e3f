import copy
import json
from typing import Any

import jsonschema
import pyarrow as pa
import pytest

from generators.errors import DataError
from infra.report.facts import RunFacts
from infra.report.result import make_result
from infra.report.schema import RESULT_SCHEMA
from infra.storage.manifest import read_manifest
from tests.infra.report import example_run
from tests.infra.report.conftest import Written

Tables = tuple[pa.Table, pa.Table]


def check(result: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(RESULT_SCHEMA)
    jsonschema.validate(result, RESULT_SCHEMA, jsonschema.Draft202012Validator)


@pytest.fixture(scope="module")
def tables(written: Written) -> Tables:
    return read_manifest(written.store.manifest), read_manifest(written.store.real_manifest)


@pytest.fixture(scope="module")
def result(written: Written, tables: Tables) -> dict[str, Any]:
    return make_result(written.facts, *tables)


def facts_of(**few: tuple[float, ...]) -> RunFacts:
    compare = {
        name: {"schedule": "mixed"} for name in few if name not in ("baseline", "curriculum")
    }
    return example_run.facts(example_run.Example(compare=compare), few)


def test_written_file_is_the_result_and_valid(written: Written, result: dict[str, Any]) -> None:
    stored = json.loads((written.store.report / "result.json").read_text())
    assert stored == result
    check(stored)
    assert stored["config_hash"] == written.facts.config.fingerprint()


def test_gain_is_the_paired_difference_with_a_t_interval(result: dict[str, Any]) -> None:
    # differences 10, 12, 11: mean 11, standard deviation 1, t(2, 97.5 %) = 4.302653
    half = 4.302653 / 3**0.5
    gain = result["gain"]["few"]
    assert gain["mean"] == pytest.approx(11)
    assert gain["ci95"] == pytest.approx([11 - half, 11 + half], abs=1e-4)
    assert gain["verdict"] == "better"
    assert result["gains"]["curriculum"] == result["gain"]
    assert result["baseline"]["few"] == pytest.approx(82)
    assert result["curriculum"]["few"] == pytest.approx(93)
    # mixed minus baseline: 5, 3.5, 2; curriculum minus mixed: 5, 8.5, 9
    assert result["gains"]["mixed"]["few"]["mean"] == pytest.approx(3.5)
    assert result["curriculum_over"]["mixed"]["few"]["mean"] == pytest.approx(7.5)


def test_many_is_unchanged_and_says_so(result: dict[str, Any]) -> None:
    assert result["gain"]["many"] == {
        "mean": 0.0,
        "ci95": [0.0, 0.0],
        "verdict": "no difference shown",
    }


def test_lower_calibration_error_is_better(result: dict[str, Any]) -> None:
    assert result["gain"]["ece"]["mean"] < 0
    assert result["gain"]["ece"]["verdict"] == "better"


def test_arms_hold_deviations_and_seeds(result: dict[str, Any]) -> None:
    arm = result["arms"]["baseline"]
    assert arm["std"]["few"] == pytest.approx(2)
    assert [seed["few"] for seed in arm["seeds"]] == [80, 82, 84]
    assert len(arm["seeds"][0]["per_class"]) == 10
    assert list(result["arms"]) == ["baseline", "curriculum", "mixed"]


def test_best_arm_may_be_another_one() -> None:
    empty = read_empty()
    result = make_result(facts_of(baseline=(80,), curriculum=(81,), mixed=(90,)), *empty)
    assert result["best_arm_few"] == "mixed"
    result = make_result(facts_of(baseline=(80,), curriculum=(79,), mixed=(70,)), *empty)
    assert result["best_arm_few"] == "baseline"


def test_one_seed_has_no_interval() -> None:
    result = make_result(facts_of(baseline=(80,), curriculum=(99,)), *read_empty())
    check(result)
    verdict = {"mean": 19.0, "ci95": None, "verdict": "no difference shown"}
    assert result["gain"]["few"] == verdict
    assert result["arms"]["baseline"]["std"]["few"] is None
    assert result["arms"]["baseline"]["ci95"]["few"] is None


def test_split_without_classes_is_null() -> None:
    example = example_run.Example(counts=(30,) * 10, compare={})
    facts = example_run.facts(example, {"baseline": (80, 81), "curriculum": (82, 83)})
    result = make_result(facts, *read_empty())
    check(result)
    assert result["baseline"]["few"] is None
    assert result["gain"]["few"] == {"mean": None, "ci95": None, "verdict": "not measured"}
    assert result["best_arm_few"] is None
    assert result["best_arm_all"] in ("baseline", "curriculum")


def test_images_are_counted_by_fate(result: dict[str, Any], tables: Tables) -> None:
    rows = tables[0].select(["status", "reason", "image_guidance"]).to_pylist()
    images = result["images"]
    refused = sum(row["status"] == "filtered" for row in rows)
    assert 0 < refused < len(rows)
    assert images == {
        "requested": 5 * 5 * 4,  # classes below 10 images, levels, images each
        "accepted": 99 - refused,
        "rejected": {"low_class_probability": refused},
        "failed": 1,
    }
    levels = result["levels"]
    assert [level["image_guidance"] for level in levels] == [0, 20, 40, 60, 80]
    assert sum(level["accepted"] for level in levels) == images["accepted"]
    assert [level["failed"] for level in levels] == [1, 0, 0, 0, 0]
    scores = [
        row["score_classifier_similarity"]
        for row in tables[0].to_pylist()
        if row["image_guidance"] == 80
    ]
    mean = levels[-1]["scores"]["classifier_similarity"]
    assert mean == pytest.approx(sum(scores) / len(scores))


def test_real_images_and_classes(result: dict[str, Any]) -> None:
    assert result["real_images"] == {
        "used": sum(example_run.COUNTS) + 20,
        "rejected": {"unreadable_image": 1},
    }
    classes = result["classes"]
    assert [row["real"] for row in classes] == list(example_run.COUNTS)
    assert [row["shots"] for row in classes] == [*["many"] * 2, *["medium"] * 3, *["few"] * 5]
    assert sum(row["synthetic"] for row in classes) == result["images"]["accepted"]
    assert all(row["synthetic"] == 0 for row in classes[:5])
    # class 9 is few-shot and 9 % 3 - 1 = -1 below the mean of the split
    assert classes[9]["baseline"] == pytest.approx(81)
    assert classes[9]["gain"]["mean"] == pytest.approx(11)


def test_seconds_of_a_stage_named_twice_are_summed(written: Written) -> None:
    stage = written.facts.stages[0]
    facts = copy.copy(written.facts)
    object.__setattr__(facts, "stages", (stage, stage))
    assert make_result(facts, *read_empty())["seconds"] == {"ingest": 4.0}


@pytest.mark.parametrize("change", ["missing", "unknown", "wrong"])
def test_schema_refuses_what_it_does_not_document(result: dict[str, Any], change: str) -> None:
    broken = copy.deepcopy(result)
    if change == "missing":
        del broken["gain"]["few"]
    elif change == "unknown":
        broken["images"]["lost"] = 1
    else:
        broken["gain"]["few"]["ci95"] = [1.0]
    with pytest.raises(jsonschema.ValidationError):
        check(broken)


def test_every_field_of_the_schema_says_what_it_is() -> None:
    undocumented = [
        name
        for name, schema in RESULT_SCHEMA["properties"].items()
        if not schema.get("description") and "const" not in schema
    ]
    assert undocumented == []


def test_a_report_needs_baseline_and_curriculum() -> None:
    with pytest.raises(DataError, match="'curriculum'"):
        facts_of(baseline=(80, 81))


def read_empty() -> Tables:
    manifest = pa.table(
        {
            "label": pa.array([], pa.int64()),
            "image_guidance": pa.array([], pa.int64()),
            "status": pa.array([], pa.string()),
            "reason": pa.array([], pa.string()),
        }
    )
    return manifest, manifest
