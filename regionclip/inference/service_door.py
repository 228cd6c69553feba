"""The door of the service: what every connection and request passes before it is looked at, and how errors are said."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
import traceback
from collections.abc import Mapping
from types import SimpleNamespace

import h11
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from regionclip.errors import InputError, logger, printable
from regionclip.inference import Limits

KEY = "REGIONCLIP_API_KEY"
OPEN = frozenset({"/health", "/ready", "/openapi.json"})
"""What is answered without a key: probes ask, and it tells nothing."""

IDLE_SECONDS = 5
_RECEIVE_SECONDS, _SEND_SECONDS = 60.0, 60.0  # of a connection, whatever the limits of requests
_LOCAL_PAGE = re.compile(rb"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_log = logger(__name__)


class Problem(BaseModel):
    """Why there is no answer; ``id`` finds a failure of the machine in the server's log."""

    problem: str
    key: str | None = None
    mend: str | None = None
    id: str | None = None


class Door:
    """What every request passes: key, room in the queue, limits of bytes and time, metrics; every error's answer."""

    def __init__(self, app: ASGIApp, limits: Limits, registry: CollectorRegistry, key: str | None) -> None:
        self._app, self._limits, self._key = app, limits, key
        self._inside = 0
        self._requests = Counter("regionclip_requests", "Requests", ("method", "route", "status"), registry=registry)
        self._seconds = Histogram("regionclip_request_seconds", "Seconds of a request", ("route",), registry=registry)
        inside = Gauge("regionclip_requests_inside", "Requests that are worked on or wait", registry=registry)
        inside.set_function(lambda: self._inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, limits = time.perf_counter(), self._limits
        seen = SimpleNamespace(status=0, taken=0, whole=False)

        async def limited() -> Message:
            message = await receive()
            seen.taken += len(message.get("body", b""))
            if seen.taken > limits.max_bytes:
                raise _too_long(limits)
            seen.whole |= message["type"] == "http.request" and not message.get("more_body")
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        try:
            async with asyncio.timeout(limits.timeout):
                await self._inward(scope, limited, noted)
        except Exception as error:
            if seen.status:
                raise  # an answer that was begun can only be cut off
            await self._refusal(error, seen.whole)(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(_method(scope), route, seen.status).inc()
            self._seconds.labels(route).observe(time.perf_counter() - begin)

    async def _inward(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, limits = dict(scope["headers"]), self._limits
        if self._key is not None and scope["path"] not in OPEN:
            given, wanted = headers.get(b"authorization", b""), f"Bearer {self._key}".encode()
            if not hmac.compare_digest(given, wanted):
                raise HTTPException(401, f"send the key: Authorization: Bearer {KEY}", {"WWW-Authenticate": "Bearer"})
        origin = headers.get(b"origin")
        if self._key is None and origin is not None and not _LOCAL_PAGE.fullmatch(origin):
            raise HTTPException(403, "pages from elsewhere are not answered")
        if _method(scope) not in ("POST", "PUT"):
            await self._app(scope, receive, send)
            return
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limits.max_bytes:
            raise _too_long(limits)
        if self._inside >= limits.max_queue:
            raise HTTPException(503, f"{limits.max_queue} requests are here already", {"Retry-After": "1"})
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1

    def _refusal(self, error: Exception, whole: bool) -> Response:
        if isinstance(error, InputError):
            record = "" if error.record is None or error.file is not None else f"{error.record!s:.80}: "
            return problem_answer(422, f"{record}{error.problem}", error.key, error.mend)
        if isinstance(error, HTTPException):
            return problem_answer(error.status_code, error.detail, headers=error.headers)
        if isinstance(error, TimeoutError):
            seconds = f"{self._limits.timeout:g} seconds"
            late = "no answer" if whole else "the request was not sent"
            return problem_answer(504 if whole else 408, f"{late} in {seconds}")
        if isinstance(error, ClientDisconnect):
            return problem_answer(400, "the client went away")
        name = secrets.token_hex(8)
        _log.error("request %s failed: %s", name, "".join(traceback.format_exception(error)))
        return JSONResponse({"problem": "the service failed", "id": name}, 500)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS") else "other"


def _too_long(limits: Limits) -> HTTPException:
    return HTTPException(413, f"more than {limits.max_bytes:,} bytes")


def problem_answer(
    status: int, problem: str, key: str | None = None, mend: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer that says what is wrong, in text that commands no terminal."""
    said = {"problem": problem, "key": key, "mend": mend}
    return JSONResponse({name: text and printable(text) for name, text in said.items()}, status, headers=headers)


class BoundedHttp(H11Protocol):
    """uvicorn's HTTP, which by itself waits for ever on a client that sends or takes its bytes slowly."""

    _slow: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the client."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        for timer in filter(None, (self._slow, self._stuck)):
            timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that takes no more of its answer a time to go on."""
        super().pause_writing()
        self._stuck = self.loop.call_later(_SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Forget that it took no more."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def _watch(self) -> None:
        """Cut the connection off where a request, its head and body, does not come whole in time."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            if self._slow is not None:
                self._slow.cancel()
            self._slow = None
        elif self._slow is None:
            self._slow = self.loop.call_later(_RECEIVE_SECONDS, self.transport.abort)
