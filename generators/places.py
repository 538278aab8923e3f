"""Files on disks and in object stores, read alike. Knows no formats.

A file that is not there is a fact about the data; a store that does not answer is not: it is asked
again for a while, and then ends the work with a StoreError, so that no image is refused for it.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from upath import UPath

from generators.errors import ConfigError, DataError, SampleRejected
from generators.persistent_file import PersistentFile

T = TypeVar("T")
Place = Path | UPath
"""A path on this machine, or a place in an object store."""

ATTEMPTS: Final = 6
MOST_SECONDS = 15.0
"""Between two attempts."""
BLOCK: Final = 8 * 2**20

MAX_IMAGE_BYTES: Final = 2**30
"""Of an image file; an uncompressed image of the most pixels that are decoded needs half of it."""

GLOB: Final = frozenset("*?[")
URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
PROTOCOLS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file", "memory"})
"""Stores of objects and files. Not those that fetch from any address a config names (`http`, which
reaches the metadata services of clouds, `ftp`, `github`), log in (`ssh`, `sftp`, `smb`) or chain to
others (`simplecache::`, `zip::`)."""
CREDENTIALS: Final = re.compile(
    r"://[^/]*@"  # user:password@host
    r"|://(?!arn:)[^/\[:]*:(?!:|\d*(?:/|$))"  # user:pass/word@host: a colon that no port follows
    rf"|^(?:{'|'.join(PROTOCOLS)})://(?!arn:)[^/]*:"  # a bucket has neither colon nor port
    r"|[?&;][\w.-]*(?:sig|token|secret|passw|credential|key)[\w.-]*=",  # signed URLs
    re.IGNORECASE,
)
WITHOUT_CREDENTIALS: Final = (
    "a URL without credentials; they come from the environment (AWS_*, ...)"
)
S3_OPTIONS: Final = {"config_kwargs": {"retries": {"total_max_attempts": 3}}}
"""The library tries a request so often, so that a large upload need not begin again; then we do."""
LASTING: Final = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""What trying again does not help."""


class StoreError(OSError):
    """An object store that does not answer, or does not let us in."""


def place(text: str, at: str = "URL") -> Place:
    """Where a path or URL of a config points; `~` is the user's folder.

    Args:
        text: a path or URL.
        at: the config field to name in errors.

    Raises:
        ConfigError: a URL of another kind, or with credentials in it.
    """
    return _locate(text, at) if URL.match(text) else Path(text).expanduser()


def has_credentials(text: str) -> bool:
    """Whether a text is a URL that lets its owner in: with a password, a key or a signature."""
    return bool(URL.match(text) and CREDENTIALS.search(text))


def without_credentials(url: str) -> str:
    """What may be shown of a URL that may have a user and password in it."""
    return re.sub(r"^([A-Za-z][\w+.-]*://)?.*@", r"\1...@", url)


def is_remote(where: Place) -> bool:
    """Whether it is no path of this machine's file system."""
    return not isinstance(where, Path)


def name_parts(where: Place) -> tuple[str, ...]:
    """The parts of a path, of a bucket's name and a key."""
    if isinstance(where, Path):
        return where.absolute().parts
    return tuple(part for part in where.path.split("/") if part)


def persistently(ask: Callable[[], T], what: str) -> T:
    """Asks an object store, again and again where that may help.

    Raises:
        FileNotFoundError: there is nothing.
        FileExistsError: there is something where nothing may be.
        StoreError: it does not answer, or refuses.
    """
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.25, max=MOST_SECONDS),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        return retrying(ask)
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # every store's library has errors of its own
        raise StoreError(f"{what}: {type(error).__name__}: {error}") from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, LASTING)


def file_exists(where: Place) -> bool:
    """Whether there is a file."""
    return where.is_file() if isinstance(where, Path) else _kind(where) == "file"


def folder_exists(where: Place) -> bool:
    """Whether there is a folder; of an object store, whether anything is below."""
    return where.is_dir() if isinstance(where, Path) else _kind(where) == "directory"


def glob_remote(where: UPath) -> list[UPath]:
    """Files of an object store that match `*`, `**`, `?` and `[]`; of a plain name, itself."""
    if file_exists(where):
        return [where]
    if not GLOB & set(where.path):
        return []
    found: list[str] = _ask(where, "glob")
    files = [_locate(where.fs.unstrip_protocol(name)) for name in found]
    return [file for file in files if file_exists(file)]


def list_remote(where: UPath) -> list[str]:
    """Names of all files below a folder of an object store, relative to it; in no order."""
    found: list[str] = _ask(where, "find")
    start = where.fs._strip_protocol(where.path.rstrip("/")) + "/"
    return [name[len(start) :] for name in found if name.startswith(start)]


@contextmanager
def opened(where: Place) -> Iterator[IO[bytes]]:
    """A file to read and seek in; of an object store, in blocks, as they are asked for."""
    if isinstance(where, Path):
        with where.open("rb") as local:
            yield local
        return
    stream = persistently(lambda: where.fs.open(where.path, "rb", block_size=BLOCK), str(where))
    file = PersistentFile(stream, lambda read: persistently(read, str(where)))
    with io.BufferedReader(file) as reader:
        yield reader


@contextmanager
def arrow_source(where: Place) -> Iterator[Any]:
    """As `opened`, for Arrow: its threads would hold a Python file beyond the interpreter's end."""
    if isinstance(where, Path):
        from pyarrow import OSFile

        source: Any = OSFile(os.fsencode(where))
    else:
        source = opened(where)
    with source as stream:
        yield stream


def read_image(where: Place) -> bytes:
    """The bytes of an image file.

    Raises:
        SampleRejected: `missing_file`, `image_too_large`, or `unreadable_image` on a disk.
        StoreError: an object store does not answer.
    """
    try:
        size = where.stat().st_size if isinstance(where, Path) else _size(where)
        if size > MAX_IMAGE_BYTES:
            raise SampleRejected("image_too_large", f"{size} bytes, more than {MAX_IMAGE_BYTES}")
        if not isinstance(where, Path):
            return _fetch(where, 0, size)
        if not where.is_file():
            raise SampleRejected("unreadable_image", f"{printable(str(where))}: no regular file")
        return where.read_bytes()
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SampleRejected("missing_file", printable(str(where))) from error
    except (OSError, ValueError) as error:
        raise SampleRejected("unreadable_image", printable(str(error))) from error


def read_range(where: Place, offset: int, size: int) -> bytes:
    """Bytes of a part of a file, in one request.

    Raises:
        OSError: the file cannot be read, or has become shorter.
    """
    if isinstance(where, Path):
        with where.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    else:
        data = _fetch(where, offset, offset + size)
    if len(data) < size:
        raise OSError(f"{where} ends at byte {offset + len(data)}, within a member")
    return data


def read_text(where: Place, name: str) -> str:
    """A text file, UTF-8 with or without a byte order mark.

    Raises:
        DataError: it cannot be read; names it as `name`.
    """
    try:
        with opened(where) as stream:
            return stream.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot read {str(where)!r} as a text file: {error}") from error


def why_not(where: Place) -> str:
    """Why a path that is missing may be missing: workers see other disks than the driver."""
    if is_remote(where):
        return "no such file or folder in the object store"
    return (
        f"not on this machine ({os.uname().nodename}); on a cluster every node needs to see it: "
        "put it on a shared disk, or give the URL of an object store"
    )


def printable(path: str) -> str:
    """A path as text that can be encoded, whatever bytes its name is made of."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _locate(text: str, at: str = "URL") -> UPath:
    """A URL of a store; never with credentials in it, which would end in configs and manifests."""
    match = URL.match(text)
    protocol = match[1].lower() if match else ""
    rest = text.partition("://")[2]
    if has_credentials(text):
        raise ConfigError(at, f"{protocol}://...", WITHOUT_CREDENTIALS)
    if not match or match[2] != "://" or protocol not in PROTOCOLS:
        shown = f"{protocol}{match[2] if match else ''}..."
        raise ConfigError(at, shown, f"a path, or a URL of {', '.join(sorted(PROTOCOLS))}")
    if protocol == "file":
        return UPath(rest)
    options: dict[str, Any] = S3_OPTIONS if protocol in {"s3", "s3a"} else {}
    # Listings of a moment ago are wrong where other processes write.
    location: UPath = UPath(text, use_listings_cache=False, **options)
    try:
        location.fs  # noqa: B018 - imports the store's library
    except (ImportError, ValueError) as error:
        allowed = f"a store whose library is installed ({error})"
        raise ConfigError(at, f"{protocol}://...", allowed) from error
    return location


def _size(where: UPath) -> int:
    size: int = persistently(lambda: where.fs.info(where.path)["size"], str(where))
    return size


def _kind(where: UPath) -> str:
    """`file`, `directory` or nothing; fsspec's `isfile` takes every error for nothing."""
    try:
        kind: str = persistently(lambda: where.fs.info(where.path)["type"], str(where))
    except FileNotFoundError:
        return ""
    return kind


def _fetch(where: UPath, start: int, end: int) -> bytes:
    if end <= start:
        return b""
    part = {"start": start, "end": end}  # by name: s3fs has a version in their place
    return persistently(lambda: bytes(where.fs.cat_file(where.path, **part)), str(where))


def _ask(where: UPath, question: str) -> Any:
    """A question to the file system that is asked again when the store does not answer."""
    questions: dict[str, Callable[[str], Any]] = {
        "glob": where.fs.glob,
        "find": where.fs.find,
    }
    return persistently(lambda: questions[question](where.path), str(where))
