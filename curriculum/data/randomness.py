"""Random streams named by what they are for. Knows no global state and no clock."""

import hashlib

import numpy as np


def class_generator(purpose: str, seed: int, label: int) -> np.random.Generator:
    """A stream of its own for each purpose, seed (any integer) and class.

    Streams do not depend on each other: another class, or the long tail made after a split, never
    changes the draws of this one.
    """
    digest = hashlib.sha256(f"{purpose}/{seed}/{label}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
