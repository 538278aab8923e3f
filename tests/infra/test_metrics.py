"""The vocabulary of metrics, and what the driver makes of it."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from generators.errors import ConfigError
from infra.meter import Meter, served
from infra.metrics import (
    BATCHES,
    IMAGES_FAILED,
    STAGE_DONE,
    VOCABULARY,
    WORK_SECONDS,
    JobCount,
)
from infra.progress import LogBoard, MeteredStage
from tests.support.scrape import free_port, scrape, values


def test_every_metric_is_exported_under_its_name_with_the_run() -> None:
    meter = Meter("animals")
    for metric in VOCABULARY:
        labels = dict.fromkeys(metric.labels, "x")
        (meter.add if metric.kind == "counter" else meter.put)(metric, 2, **labels)
    with served_on_free_port(meter) as port:
        found = values(scrape(port))
    names = {name for name, _ in found if not name.endswith("_created")}
    assert names == {metric.name for metric in VOCABULARY}
    assert all(dict(labels)["run"] == "animals" for _, labels in found)


def test_a_job_adds_what_has_grown_since_its_last_word() -> None:
    meter = Meter("r")
    first, second = JobCount(meter), JobCount(meter)
    first.report({"batches": 2, "failed_not_finite": 1, "network_seconds": 0.5, "bare_seconds": 9})
    first.report({"batches": 5, "failed_not_finite": 1, "network_seconds": 0.75})
    second.report({"batches": 1, "failed_not_finite": 2})
    assert value(meter, BATCHES.name) == 6
    assert value(meter, IMAGES_FAILED.name, reason="not_finite") == 3
    assert value(meter, WORK_SECONDS.name, work="network") == 0.75
    assert value(meter, WORK_SECONDS.name, work="bare") is None


def test_units_that_a_dead_worker_had_shown_are_taken_back() -> None:
    meter = Meter("r")
    with LogBoard(Quiet(), every=60).stage("generate", 10, "images") as shown:  # type: ignore[arg-type]
        stage = MeteredStage(shown, meter, "generate", 10, "images")
        stage.advance(4)
        stage.advance(-3)
    assert value(meter, STAGE_DONE.name, stage="generate", unit="images") == 1
    assert value(meter, "discl_last_progress_timestamp_seconds") > 1.7e9


def test_only_this_machine_is_answered_and_only_while_the_block_lasts() -> None:
    with served_on_free_port(Meter("r")) as port:
        listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()}
        assert f"0100007F:{port:04X}" in listening  # 127.0.0.1, little endian
        assert f"00000000:{port:04X}" not in listening
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_last_values_are_left_in_a_file_even_after_an_error(tmp_path: Path) -> None:
    meter, file = Meter("r"), tmp_path / "discl.prom"
    meter.add(BATCHES, 7)
    with pytest.raises(KeyError), served(meter, {"DISCL_METRICS_FILE": str(file)}):
        raise KeyError("x")
    assert values(file.read_text())["discl_batches_total", (("run", "r"),)] == 7


@pytest.mark.parametrize("port", ["many", "-1", "99999"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with (
        pytest.raises(ConfigError, match="DISCL_METRICS_PORT"),
        served(Meter("r"), {"DISCL_METRICS_PORT": port}),
    ):
        pass


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with (
            pytest.raises(ConfigError, match=f"{port}.*in use"),
            served(Meter("r"), {"DISCL_METRICS_PORT": port}),
        ):
            pass


def served_on_free_port(meter: Meter) -> "Serving":
    return Serving(meter)


class Serving:
    def __init__(self, meter: Meter) -> None:
        self.port = free_port()
        self._block = served(meter, {"DISCL_METRICS_PORT": str(self.port)})

    def __enter__(self) -> int:
        self._block.__enter__()
        return self.port

    def __exit__(self, *error: object) -> None:
        self._block.__exit__(None, None, None)


class Quiet:
    def print(self, *_: object, **__: object) -> None:
        pass


def value(meter: Meter, name: str, **labels: str) -> float:
    found = meter.registry.get_sample_value(name, {"run": "r", **labels})
    return found  # type: ignore[return-value]


def test_the_text_is_what_prometheus_reads() -> None:
    with served_on_free_port(Meter("r")) as port:
        families = {family.name: family for family in text_string_to_metric_families(scrape(port))}
    assert families["discl_batches"].type == "counter"
    assert families["discl_batches"].documentation == BATCHES.about
    assert families["discl_workers"].type == "gauge"
