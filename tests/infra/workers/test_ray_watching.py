"""What a real Ray exports and logs of the jobs on its actors."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.logs import concerning
from infra.metrics import VOCABULARY
from infra.workers.layout import GroupSpec
from infra.workers.ray_pool import RayPool, RayPoolSpec, ray
from tests.infra.workers import watched_jobs
from tests.infra.workers.example_jobs import ignore
from tests.infra.workers.watched_jobs import report
from tests.support.scrape import Labels, free_port, scrape, total, values

pytestmark = pytest.mark.slow

SECRET = "sesame-open-1234"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A node's metrics port; three jobs have run there on two actors. No dashboard is needed."""
    found = free_port()
    ray.cloudpickle.register_pickle_by_value(watched_jobs)
    patch = pytest.MonkeyPatch()
    patch.setenv("DISCL_LOG", "json")
    patch.setenv("MY_API_TOKEN", SECRET)
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        _metrics_export_port=found,
        _system_config={"metrics_report_interval_ms": 500},
    )
    pool = RayPool(RayPoolSpec(groups=[GroupSpec(count=2, threads=1)]))
    with concerning(run="animals", group="g040-1 +7"), pool.lease() as one, pool.lease() as other:
        for worker in (one, other, one):
            worker.run(report, SECRET, on_progress=ignore)
    yield found
    pool.close()
    ray.shutdown()
    patch.undo()


def exported(port: int) -> dict[tuple[str, Labels], float]:
    """What the node exports, once the actors' last values have come."""
    deadline = time.monotonic() + 60
    while True:
        found = values(scrape(port))
        if total(found, "ray_discl_model_evaluations_total") == 36 or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_actors_are_scraped_from_the_cluster_by_run_and_reason(port: int) -> None:
    found = exported(port)
    assert total(found, "ray_discl_model_evaluations_total") == 3 * 12
    assert total(found, "ray_discl_images_made_total") == 3 * 5
    assert total(found, "ray_discl_images_failed_total") == 3 * 2
    ours = {(name, dict(labels)["run"]) for name, labels in found if name.startswith("ray_discl")}
    assert {run for _, run in ours} == {"animals"}
    assert {name for name, _ in ours} == {"ray_" + m.name for m in VOCABULARY if m.by_workers}
    labels = [dict(labels) for name, labels in found if name == "ray_discl_images_failed_total"]
    assert {label["reason"] for label in labels} == {"not_finite"}
    assert len({label["WorkerId"] for label in labels}) == 2
    assert all(label["NodeAddress"] for label in labels)  # the dashboard's panels group by both


def test_actors_log_what_they_work_for_to_rays_files_without_secrets(port: int) -> None:
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    texts = [path.read_text(errors="replace") for path in session.glob("logs/worker-*")]
    lines: list[dict[str, Any]] = [
        json.loads(line)
        for text in texts
        for line in text.splitlines()
        if line.startswith('{"time"')
    ]
    assert [line["message"] for line in lines] == ["signed with [hidden]"] * 3
    assert all(line["run"] == "animals" and line["group"] == "g040-1 +7" for line in lines)
    assert {line["shard"] for line in lines} == {"g040-1"}
    assert not any(SECRET in text for text in texts)
