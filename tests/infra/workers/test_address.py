"""Addresses of clusters that are none are refused at once: Ray would try for minutes."""

import socket

import pytest

from generators.errors import ConfigError
from infra.workers.ray_start import check_address


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head", "head:", "head:x", "127.0.0.1:1", "127.0.0.1:99999"]
)
def test_nobody_listens(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert (caught.value.field, caught.value.value) == ("workers.address", address)


def test_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")
    check_address("auto")
