"""A real S3 server on loopback with one bucket, and the environment that leads to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import s3fs
from moto.server import ThreadedMotoServer

BUCKET = "data"


@contextmanager
def serving(keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Starts a server; gives the variables that s3fs and boto read.

    Args:
        keys: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, any.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        files = s3fs.S3FileSystem(
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=url,
            skip_instance_cache=True,
        )
        files.mkdir(BUCKET)
        yield {**keys, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        server.stop()


def put_folder(folder: Path, url: str) -> None:
    """Copies a folder into a bucket, with the credentials of the environment."""
    import fsspec

    files, root = fsspec.core.url_to_fs(url)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
