"""Versions of a manifest: what a data set that grows was before, and is now.

`manifest.parquet` is the newest one; `manifests/000001.parquet` and so on are all of them, for
readers that must not see a change. Shards are never removed, so that every version can be read.
"""

import re
import shutil
from typing import Final

from generators.places import Place, file_exists, opened
from infra.storage.atomic import replacing
from infra.storage.files import sizes_in
from infra.storage.runs import RunStore
from infra.storage.shards import file_sha256

FILE: Final = re.compile(r"(\d{6})\.parquet")


def versions(store: RunStore) -> dict[int, Place]:
    """Number to file of every version, oldest first."""
    folder = store.root / "manifests"
    found = (FILE.fullmatch(name) for name in sizes_in(folder))
    return {int(match[1]): folder / match[0] for match in sorted(filter(None, found), key=str)}


def keep_version(store: RunStore) -> int:
    """Keeps the manifest as it is now as a version; returns its number, 0 without a manifest.

    Does nothing where it is the newest version already, so that it may be repeated after a kill.
    """
    if not file_exists(store.manifest):
        return 0
    kept = versions(store)
    newest = max(kept, default=0)
    if newest and file_sha256(kept[newest]) == file_sha256(store.manifest):
        return newest
    path = store.root / "manifests" / f"{newest + 1:06d}.parquet"
    with opened(store.manifest) as manifest, replacing(path) as stream:
        shutil.copyfileobj(manifest, stream)
    return newest + 1
