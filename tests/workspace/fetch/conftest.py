"""A small HTTP server with ranges for the tests of fetching; it breaks connections, redirects and refuses when told."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Served:
    """What the server holds and how it behaves.

    Attributes:
        files: Path -> bytes.
        redirects: Path -> path or address.
        statuses: Path -> statuses to answer with, one a request, before the file is given.
        cut_after: Bytes after which an answer is cut.
        cuts: How many answers are cut so; the ones after them are whole.
        ranges: Whether the server can go on in the middle.
        log: Path and Range header of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cut_after: int | None = None
    cuts: int = 0
    ranges: bool = True
    log: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        served: Served = self.server.served
        served.log.append((self.path, self.headers.get("Range")))
        if served.statuses.get(self.path):
            self._empty(served.statuses[self.path].pop(0))
        elif self.path in served.redirects:
            self._empty(302, {"Location": served.redirects[self.path]})
        elif self.path not in served.files:
            self._empty(404)
        else:
            self._give(served, served.files[self.path])

    def _give(self, served: Served, content: bytes) -> None:
        start = self._start(served)
        if start is not None and start >= len(content):
            self._empty(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start or 0 :]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if served.cut_after is not None and served.cuts > 0:
            served.cuts -= 1
            self.wfile.write(body[: served.cut_after])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _start(self, served: Served) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(asked[1]) if asked and served.ranges else None

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def served() -> Iterator[Served]:
    """A server on a free port of this machine; a test changes how it behaves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.served = Served(address=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
