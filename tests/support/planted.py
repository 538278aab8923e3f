"""Pickles that leave a mark when they are read, so that a test sees whether anything read one."""

import os
import pickle
from pathlib import Path


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def planted_pickle(mark: Path) -> bytes:
    """A pickle that makes a folder; of a protocol that every reader knows."""
    return pickle.dumps({"state_dict": {}, "data": Planted(mark)}, protocol=2)
