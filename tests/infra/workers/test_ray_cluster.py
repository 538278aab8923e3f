"""A cluster whose machines come and go, simulated by several raylets on this one."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from generators.errors import ConfigError
from infra.errors import RunFailed, WorkerLost
from infra.workers.layout import GroupSpec
from infra.workers.ray_pool import RayPool, RayPoolSpec, ray
from infra.workers.ray_start import leaving_nodes
from infra.workers.ray_worker import Actor
from tests.infra.workers import example_jobs
from tests.infra.workers.example_jobs import (
    count,
    ignore,
    read_variable,
    resolve,
    wait_for_file,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers."""
    ray.cloudpickle.register_pickle_by_value(example_jobs)
    made = Cluster()
    made.add_node(num_cpus=0, include_dashboard=False)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def pool_of(count: int | None, *, autoscale: bool = False, **resources: float) -> RayPool:
    group = GroupSpec(count=count, threads=1, resources=resources)
    return RayPool(RayPoolSpec(groups=[group], autoscale=autoscale, wait_seconds=60))


def test_workers_join_when_their_machine_comes(cluster: Cluster) -> None:
    pool = pool_of(2, autoscale=True, late=1)
    found: list[int] = []

    def work() -> None:
        with pool.lease() as worker:
            found.append(worker.run(count, 3, on_progress=ignore))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: len(demand()) == 2)  # what an autoscaler goes by
    assert found == []
    node = cluster.add_node(num_cpus=1, resources={"late": 1})  # room for one of the two
    thread.join(60)
    assert found == [3]
    pool.close()
    cluster.remove_node(node)


def demand() -> list[object]:
    """Actors that wait for a place."""
    actors = ray._private.state.actors()
    return [actor for actor in actors.values() if actor["State"] == "PENDING_CREATION"]


def test_a_worker_lost_with_its_machine_is_replaced_elsewhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1, resources={"pair": 1}) for _ in range(2)]
    pool = pool_of(None, pair=1)
    assert pool.size == 2
    with pool.lease() as kept, pool.lease() as lost:
        by_node = {kept.node: kept, lost.node: lost}  # type: ignore[attr-defined]
        victim = by_node[nodes[0].node_id]
        threading.Timer(1, cluster.remove_node, [nodes[0]]).start()
        with pytest.raises(WorkerLost, match="with its machine"):
            victim.run(wait_for_file, tmp_path / "never", on_progress=ignore)
    for _ in range(3):  # one place is left; nobody waits for the other
        with pool.lease() as worker:
            assert worker.run(count, 3, on_progress=ignore) == 3
    another = cluster.add_node(num_cpus=1, resources={"pair": 1})
    assert len(set(pool.pids())) == 2  # and the pool has grown again
    pool.close()
    cluster.remove_node(nodes[1])
    cluster.remove_node(another)


def test_a_machine_that_is_drained_gets_no_new_job(cluster: Cluster) -> None:
    nodes = [cluster.add_node(num_cpus=2, resources={"drained": 2}) for _ in range(2)]
    pool = pool_of(2, drained=1)
    pool.pids()
    accepted, why = ray._private.worker.global_worker.gcs_client.drain_node(
        nodes[0].node_id, 2, "preempted", int(1000 * (time.time() + 600))
    )
    assert accepted, why
    assert leaving_nodes() >= {nodes[0].node_id}
    for _ in range(4):
        with pool.lease() as worker:
            assert worker.node == nodes[1].node_id  # type: ignore[attr-defined]
            assert worker.run(count, 3, on_progress=ignore) == 3
    pool.close()
    for node in nodes:
        cluster.remove_node(node)


def test_groups_go_to_their_machines_with_their_variables(cluster: Cluster) -> None:
    nodes = [cluster.add_node(num_cpus=2, resources={name: 1}) for name in ("big", "small")]
    groups = [
        GroupSpec(count=1, threads=1, resources={"big": 1}),
        GroupSpec(count=2, threads=1, resources={"small": 0.5}),
    ]
    pool = RayPool(RayPoolSpec(groups=groups, environment={"MY_TOKEN": "sesame"}))
    assert pool.size == 3
    assert "sesame" not in repr(pool._spec)
    with pool.lease() as one, pool.lease() as two, pool.lease() as three:
        places = sorted(worker.node for worker in (one, two, three))  # type: ignore[attr-defined]
        assert places == sorted([nodes[0].node_id, nodes[1].node_id, nodes[1].node_id])
        assert one.run(read_variable, "MY_TOKEN", on_progress=ignore) == "sesame"
    pool.close()
    for node in nodes:
        cluster.remove_node(node)


def test_relative_paths_are_the_drivers_where_its_folder_is(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.add_node(num_cpus=1, resources={"mine": 1})
    monkeypatch.chdir(tmp_path)
    pool = pool_of(1, mine=1)
    with pool.lease() as worker:
        assert worker.run(resolve, "photos", on_progress=ignore) == tmp_path / "photos"
    pool.close()
    Actor(1, "cpu", {}, str(tmp_path / "elsewhere"))  # a machine without that folder
    assert Path.cwd() == tmp_path
    cluster.remove_node(node)


def test_a_run_without_any_worker_ends(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"workers\.resources"):
        pool_of(1, nowhere=1)
    spec = RayPoolSpec(
        groups=[GroupSpec(count=1, threads=1, resources={"nowhere": 1})],
        autoscale=True,
        wait_seconds=2,
    )
    pool = RayPool(spec)
    with (
        pytest.raises(RunFailed, match=r"no worker found a place for 2 s.*1 nowhere"),
        pool.lease(),
    ):
        pass
    pool.close()
