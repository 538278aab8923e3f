"""A real S3 server on loopback with one bucket, the environment that leads to it, and a proxy that
makes it fail: errors, slow answers, connections cut in the middle of bodies, both ways."""

import http.client
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Final
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import s3fs
from moto.server import ThreadedMotoServer

BUCKET: Final = "data"
KINDS: Final = ("error", "slow", "cut_request", "cut_response")
HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@contextmanager
def serving(keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Starts a server; gives the variables that s3fs and boto read.

    Args:
        keys: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, any.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        # What moto keeps is the process's: a server of an earlier test left its bucket there.
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()
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


@dataclass(slots=True, eq=False)
class Faults:
    """What a proxy does to requests, and what it has done; may be changed while it serves.

    Attributes:
        shares: kind of fault to the share of requests it befalls; of `error`, `slow`,
            `cut_request` and `cut_response`.
        slow_seconds: how long a slow answer waits.
        down: whether every connection is cut.
        done: kind to how often; `ok` and `bytes` too.
    """

    shares: dict[str, float] = field(default_factory=dict)
    slow_seconds: float = 0.3
    down: bool = False
    done: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _lock: Lock = field(default_factory=Lock)

    def draw(self) -> str:
        """What befalls the next request."""
        with self._lock:
            drawn, kind = self._random.random(), "ok"
            for name in KINDS:
                drawn -= self.shares.get(name, 0.0)
                if drawn < 0:
                    kind = name
                    break
            kind = "cut_request" if self.down else kind
            self.done[kind] += 1
            return kind


@contextmanager
def failing(url: str, faults: Faults) -> Iterator[str]:
    """A proxy in front of a server; gives its URL."""
    target = urlsplit(url)
    assert target.hostname
    assert target.port

    class Handler(_Handler):
        pass

    Handler.faults, Handler.target = faults, (target.hostname, target.port)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    target: tuple[str, int]

    def log_message(self, *args: object) -> None:
        """Says nothing."""

    def _serve(self) -> None:
        kind = self.faults.draw()
        size = int(self.headers.get("Content-Length") or 0)
        if kind == "cut_request":
            self.rfile.read(size // 2)
            self._cut()
            return
        body = self._body(size)
        if kind == "error":
            self._answer(
                random.choice((500, 503)), {}, b"<Error><Code>InternalError</Code></Error>"
            )
            return
        if kind == "slow":
            time.sleep(self.faults.slow_seconds)
        status, headers, data = self._forward(body)
        if kind == "cut_response":
            self._answer(status, headers, data, sent=len(data) // 2)
            self._cut()
            return
        self.faults.done["bytes"] += len(body) + len(data)
        self._answer(status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self, size: int) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(size)
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.target, timeout=60)
        try:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
            kept.pop("Expect", None)
            if body or self.command in {"PUT", "POST"}:
                kept["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body or None, kept)
            answer = connection.getresponse()
            data = answer.read()
            headers = dict(answer.getheaders())
            return answer.status, headers, data
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: Mapping[str, str], data: bytes, sent: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        size = len(data)
        if self.command == "HEAD":
            size = int(next((v for k, v in headers.items() if k.lower() == "content-length"), 0))
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])
        self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()
