import os
from collections.abc import Iterator

import pytest

from infra.prefect_server import PrivateServer
from infra.storage.runs import RunStore
from tests.support.prefect_api import Api
from tests.support.tiny_run import tiny_config


@pytest.fixture(scope="session")
def prefect_harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of its own for all flow tests of this session."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from infra.prefect_server import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A persistent server with a work pool, `discl`, and the deployments of prefect.yaml."""
    server = PrivateServer(tmp_path_factory.mktemp("server"))
    server.wait()
    found = Api(server.url, tmp_path_factory.mktemp("home"))
    found.call("prefect", "work-pool", "create", "discl", "--type", "process")
    found.call("prefect", "--no-prompt", "deploy", "--all")
    yield found
    server.stop()


@pytest.fixture(scope="session")
def finished_run(prefect_harness: None, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """The store of a tiny run that came to its end, on the local pool."""
    from flows.run import run
    from tasks.runtime import COMMAND

    config = tiny_config()
    store = RunStore(tmp_path_factory.mktemp("run") / "output")
    token = COMMAND.set("discl run tiny.yaml")
    run(config, str(store.root))
    COMMAND.reset(token)
    return store
