"""Dashboard and alerts speak of the metrics that there are, and of all of them."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from infra.metrics import VOCABULARY, Metric

DEPLOY = Path(__file__).parents[3] / "infra/deploy"
RAY = "ray_"
RAY_LABELS = {"NodeAddress", "WorkerId"}
GRAFANA = {"$__rate_interval": "5m", "$run": "animals"}


def known() -> dict[str, Metric]:
    """Exported name to metric: the driver's, and the workers' as Ray exports them."""
    driver = {metric.name: metric for metric in VOCABULARY}
    return driver | {RAY + metric.name: metric for metric in VOCABULARY if metric.by_workers}


def selected(node: Any) -> Iterator[str]:
    """The metrics an expression reads."""
    names: list[str] = []

    def visit(found: Any) -> bool:
        if isinstance(found, promql_parser.VectorSelector):
            names.append(found.name)
        return True

    promql_parser.walk(node, visit)
    yield from names


def parsed(expression: str) -> Any:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/discl.json").read_text())
    return found


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_dashboard_shows_every_metric_and_no_other(dashboard: dict[str, Any]) -> None:
    shown = {name for text in expressions(dashboard) for name in selected(parsed(text))}
    assert shown == known().keys()


def test_alerts_read_metrics_that_there_are() -> None:
    read = {name for rule in alerts() for name in selected(parsed(rule["expr"]))}
    assert read <= known().keys()
    assert {"discl_last_progress_timestamp_seconds", "discl_images_failed_total"} <= read


def test_sums_and_legends_use_labels_that_the_metric_has(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            names = list(selected(parsed(target["expr"])))
            labels = {"run"}.union(*(known()[name].labels for name in names))
            if any(name.startswith(RAY) for name in names):
                labels |= RAY_LABELS
            grouped = {
                label.strip()
                for found in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in found.split(",")
            }
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= grouped <= labels, panel["title"]


def test_counters_are_never_shown_without_a_rate_or_a_sum(dashboard: dict[str, Any]) -> None:
    for text in [*expressions(dashboard), *(rule["expr"] for rule in alerts())]:
        for name in selected(parsed(text)):
            if f"rate({name}" in text or f"increase({name}" in text:
                assert known()[name].kind == "counter", text


def test_panels_have_what_grafana_needs_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    assert {"uid", "title", "schemaVersion", "time", "templating", "panels"} <= dashboard.keys()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {p["type"] for p in panels} <= {"row", "stat", "timeseries", "bargauge"}
    for panel in panels:
        assert {"id", "type", "title", "gridPos"} <= panel.keys()
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["description"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
            assert all(t["datasource"]["uid"] == "${source}" for t in panel["targets"])
    for one, other in itertools.combinations((panel["gridPos"] for panel in panels), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart |= one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart


def test_variables_that_panels_use_are_defined(dashboard: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(dashboard["panels"])))
    assert used - {"__rate_interval"} <= defined


def test_alerts_have_what_prometheus_needs() -> None:
    for rule in alerts():
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        labels = {"run"}.union(*(known()[n].labels for n in selected(parsed(rule["expr"]))))
        assert named <= labels
    assert {rule["alert"] for rule in alerts()} >= {"RunMakesNoProgress", "ImagesFail"}
