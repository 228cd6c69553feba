"""Doors refuse every host, origin and login but their own, on HTTP and WebSocket, whatever stands in the headers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.doors import Door

HOSTS, LOGIN = "127.0.0.1:4200, http://localhost:4200,https://prefect.example", "regionclip:secret"
OWN = ("127.0.0.1:4200", "localhost:4200", "prefect.example", "LOCALHOST:4200")
AUTHORIZATION = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers everything."""
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text("inside")
        await socket.close()
    else:
        await PlainTextResponse("inside")(scope, receive, send)


CLIENT = TestClient(Door(inside, HOSTS, LOGIN))


def status(**headers: str) -> int:
    return CLIENT.post("/api/flows/", headers=headers).status_code


@pytest.mark.parametrize("host", OWN)
def test_clients_and_its_own_pages_come_in(host: str) -> None:
    assert status(host=host, authorization=AUTHORIZATION) == 200
    for scheme in ("http", "https"):
        assert status(host=host, authorization=AUTHORIZATION, origin=f"{scheme}://{host}") == 200
    with CLIENT.websocket_connect("/x", headers={"host": host, "authorization": AUTHORIZATION}) as socket:
        assert socket.receive_text() == "inside"


FOREIGN = [
    "evil.example", "evil.example:4200", "127.0.0.1", "127.0.0.1:5000", "127.0.0.1:4200.evil.example", "10.0.0.1:4200",
    "127.0.0.1:4200,evil.example", "evil.example#127.0.0.1:4200", "x@127.0.0.1:4200", "", " ", "null", "[::1]:4200",
    "prefect.example:4200", "sub.prefect.example", "prefect.example.",
]  # fmt: skip


@given(st.sampled_from(FOREIGN) | st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_every_other_host_and_origin_is_refused(name: str) -> None:
    if name.lower() in {own.lower() for own in OWN}:
        return
    assert status(host=name, authorization=AUTHORIZATION) == 403
    for origin in (name, f"http://{name}", f"http://{OWN[0]}/{name}x"):
        headers = {"host": OWN[0], "authorization": AUTHORIZATION, "origin": origin}
        assert status(**headers) == 403
        with pytest.raises(WebSocketDisconnect), CLIENT.websocket_connect("/x", headers=headers):
            pass


@given(st.sampled_from(["", "Basic", LOGIN, f"Bearer {AUTHORIZATION[6:]}", f"{AUTHORIZATION}x"]) | st.binary().map(
    lambda login: f"Basic {base64.b64encode(login).decode()}"
))  # fmt: skip
def test_every_other_login_is_asked_to_log_in(authorization: str) -> None:
    answer = CLIENT.get("/", headers={"host": OWN[0], "authorization": authorization})
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")
    assert CLIENT.get("/", headers={"host": OWN[0]}).status_code == 401


def test_two_hosts_or_an_origin_among_others_are_refused() -> None:
    for doubled in (("host", OWN[0]), ("host", "evil.example"), ("origin", "http://evil.example")):
        headers = [("host", OWN[0]), ("authorization", AUTHORIZATION), ("origin", f"http://{OWN[0]}"), doubled]
        assert CLIENT.get("/", headers=headers).status_code == 403


def test_probes_need_nothing_and_lead_nowhere_else() -> None:
    for path in ("/health", "/api/health", "/api/ready"):
        assert CLIENT.get(path, headers={"host": "10.1.2.3:4200"}).status_code == 200
    for path in ("/health/", "/api/health/../flows", "//health", "/x/health", "/api/admin/settings"):
        assert CLIENT.get(path, headers={"host": "10.1.2.3:4200"}).status_code == 403
