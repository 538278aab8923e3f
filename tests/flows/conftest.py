from collections.abc import Iterator

import pytest

from infra.prefect_server import PrivateServer
from tests.support.prefect_api import Api


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
