"""Copies of networks that may be changed, around the tensors of the original."""

import copy
from typing import Any


def sharing_copy(module: Any) -> Any:
    """A copy whose modules are its own and whose parameters and buffers are the original's."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
