"""What an accepted image costs: by hand, in the result, on the page and in a terminal."""

from dataclasses import replace
from typing import Any

import jsonschema
import pyarrow as pa
import pytest

from curriculum.plan import shard_level
from infra.cli.summary import cost_line
from infra.report.costs import image_costs
from infra.report.facts import GenerationCost, Spending
from infra.report.html import write_report
from infra.report.result import make_result
from infra.report.schema import COSTS, RESULT_SCHEMA
from infra.report.wording import price
from infra.storage.manifest import read_manifest
from tests.infra.report.conftest import Written

COST = GenerationCost(
    images=6,
    model_calls=120,
    seconds=72.0,
    bare_seconds=60.0,
    batch_fill=1.0,
    batch_size=16,
    queue=16.0,
    stages={},
    levels={
        0: Spending(seconds=54.0, model_calls=90),
        50: Spending(seconds=18.0, model_calls=30),
    },
    price_per_hour=2.5,
)


def manifest(*rows: tuple[int, str]) -> pa.Table:
    levels, statuses = zip(*rows, strict=True)
    reasons = ["" if status == "ok" else "x" for status in statuses]
    return pa.table({"image_guidance": levels, "status": statuses, "reason": reasons})


THREE_OF_FIVE = manifest((0, "ok"), (0, "filtered"), (0, "failed"), (50, "ok"), (50, "ok"))


def test_accepted_images_pay_for_the_others() -> None:
    costs = image_costs(COST, THREE_OF_FIVE).as_json()
    jsonschema.validate(costs, COSTS)
    assert costs["accepted"] == 3
    assert costs["price"] == pytest.approx(72 / 3600 * 2.5)
    assert costs["per_accepted"] == pytest.approx(
        {"worker_seconds": 24.0, "model_evaluations": 40.0, "price": 0.05 / 3}
    )
    zero, fifty = costs["levels"]
    assert (zero["image_guidance"], zero["accepted"], zero["worker_seconds"]) == (0, 1, 54.0)
    assert zero["per_accepted"]["price"] == pytest.approx(54 / 3600 * 2.5)
    assert fifty["per_accepted"]["model_evaluations"] == 15


def test_without_a_price_and_without_an_accepted_image() -> None:
    costs = image_costs(replace(COST, price_per_hour=None), manifest((0, "failed"))).as_json()
    jsonschema.validate(costs, COSTS)
    assert costs["price"] is None
    assert set(costs["per_accepted"].values()) == {None}
    assert cost_line(costs) == "cost: 72.0 worker seconds, and no image accepted"


def test_one_line_for_a_terminal() -> None:
    costs = image_costs(COST, THREE_OF_FIVE).as_json()
    line = "an accepted image: 40.0 model evaluations, 24 worker seconds, price 0.0167"
    assert cost_line(costs) == line
    costs = image_costs(replace(COST, price_per_hour=None), THREE_OF_FIVE).as_json()
    assert cost_line(costs) == line.partition(", price")[0]
    nothing = Spending(seconds=0.0, model_calls=0)
    copied = replace(COST, model_calls=0, seconds=0.1, levels={0: nothing, 50: nothing})
    costs = image_costs(copied, THREE_OF_FIVE).as_json()
    assert cost_line(costs) == "no model evaluations: all images are copies"


def test_result_and_page_of_a_run_say_it(written: Written) -> None:
    rows, real = read_manifest(written.store.manifest), read_manifest(written.store.real_manifest)
    facts = replace(written.facts, cost=COST)
    result: dict[str, Any] = make_result(facts, rows, real)
    jsonschema.validate(result, RESULT_SCHEMA)
    assert result["cost"]["accepted"] == result["images"]["accepted"]
    page = write_report(written.store, facts).read_text()
    try:
        each = price(0.05 / result["images"]["accepted"])
        assert f"<strong>{each}</strong> at 2.50 an hour" in page
        assert '<th scope="row">20 %</th>' in page
    finally:
        write_report(written.store, written.facts)


def test_a_run_that_generated_nothing_has_no_cost(written: Written) -> None:
    rows, real = read_manifest(written.store.manifest), read_manifest(written.store.real_manifest)
    result = make_result(replace(written.facts, cost=None), rows, real)
    jsonschema.validate(result, RESULT_SCHEMA)
    assert "cost" not in result


def test_the_level_is_in_a_shards_name() -> None:
    assert [shard_level(f"g{level:03d}-0f") for level in (0, 40, 100)] == [0, 40, 100]
