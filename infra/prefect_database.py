"""The database that a private Prefect server begins with: a copy of an empty one.

Prefect makes its tables by some hundred migrations, which takes longer than the rest of a start.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from generators.errors import OutputError
from generators.local_copies import cache_folder

NAME: Final = "prefect.db"
UPGRADE: Final = (sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes")
FOREIGN: Final = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
"""Lead to a database that is the user's."""


def give_database(home: Path) -> None:
    """Puts an empty database into a server's folder, unless it has one.

    It is a copy of one in the cache folder, made there first for each version of Prefect. Does
    nothing where that fails, or the user has named a database: the server sees to itself then.
    """
    if (home / NAME).exists() or any(name in os.environ for name in FOREIGN):
        return
    try:
        _copy(_template(), home / NAME)
    except (OSError, OutputError, subprocess.SubprocessError) as error:
        print(f"no database to copy: {error}", file=sys.stderr)


def _template() -> Path:
    """An empty database of the installed version, made if missing."""
    kept = cache_folder() / "prefect" / f"{version('prefect')}.db"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryDirectory() as folder:
            environment = {**os.environ, "PREFECT_HOME": folder}
            subprocess.run(UPGRADE, env=environment, stdin=subprocess.DEVNULL, check=True)
            _copy(Path(folder) / NAME, kept)
    return kept


def _copy(source: Path, target: Path) -> None:
    from infra.storage.atomic import write_bytes  # brings Arrow, which most starts do without

    write_bytes(target, source.read_bytes())
