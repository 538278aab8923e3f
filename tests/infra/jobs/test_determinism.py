"""Deterministic kernels are asked for inside the block, and only there."""

from contextlib import suppress

import pytest
import torch

from infra.jobs.determinism import deterministic


@pytest.mark.parametrize("enabled", [True, False])
def test_the_setting_ends_with_the_block(enabled: bool) -> None:
    def state() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    before = state()
    inside = []
    with suppress(KeyError), deterministic(enabled):
        inside.append(state())
        raise KeyError
    assert inside == [(enabled, not enabled)]
    assert state() == before
