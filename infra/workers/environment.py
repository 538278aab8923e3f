"""Environment variables that workers on other machines need as the driver has them."""

import os
from collections.abc import Mapping
from typing import Final

import fsspec.config

STORE_VARIABLES: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
        "STORAGE_EMULATOR_HOST",
    }
)
"""Which object store, and who asks. None that names a file or a role of one machine."""

FSSPEC: Final = "FSSPEC_"
"""Begins options of any store, e.g. `FSSPEC_S3_ENDPOINT_URL`."""


def store_variables() -> dict[str, str]:
    """The driver's variables of object stores: secrets, some of them."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in STORE_VARIABLES or name.startswith(FSSPEC)
    }


def adopt(variables: Mapping[str, str]) -> None:
    """Sets variables of this process, before or after a store's library is imported.

    Stores' libraries read theirs when they connect; fsspec reads its own when it is imported, which
    may have been before.
    """
    if not variables:
        return
    os.environ.update(variables)
    fsspec.config.set_conf_env(fsspec.config.conf)
