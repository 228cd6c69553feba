"""The service over real connections: the Python API's answers, batches, and what it refuses without a word more."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from mlflow.pyfunc import PythonModelContext
from PIL import Image

from regionclip.cli import main
from regionclip.errors import InputError
from regionclip.inference import Limits, RegionCLIP, service, service_door, service_inputs
from regionclip.inference.batching import Batcher
from regionclip.inference.pyfunc_model import RegionCLIPModel
from regionclip.inference.service import Service, build_app, configured

NAMES = ["star", "red circle"]
LOW = {"threshold": 0.001}
LIMITS = Limits(max_bytes=300_000, max_pixels=100_000, max_names=50, timeout=20, max_wait=0.05)
KEY = "a key of this test, ä"


class Running:
    """uvicorn in a thread, on a free port of the loopback."""

    def __init__(self, model: RegionCLIP | None, limits: Limits, key: str | None = None) -> None:
        self.service = Service(limits, frozenset({"pictures.test"}))
        self.service.model = model
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._server = uvicorn.Server(configured(build_app(self.service, key), limits))
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],))

    def __enter__(self) -> httpx.Client:
        self._thread.start()
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                client.get("/health")
                break
            time.sleep(0.02)
        return client

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()


@pytest.fixture(scope="module")
def running(detector: RegionCLIP) -> Iterator[tuple[Running, httpx.Client]]:
    """The service, without a key."""
    made = Running(detector, LIMITS)
    with made as client:
        yield made, client


@pytest.fixture
def client(running: tuple[Running, httpx.Client]) -> httpx.Client:
    """A client of the service."""
    return running[1]


@pytest.fixture(scope="module")
def pictures(workspace: Path) -> list[bytes]:
    """Files: three of one size, one of another."""
    found = [(workspace / f"data/sets/coco/val/{number}.png").read_bytes() for number in (1, 2, 3)]
    stream = io.BytesIO()
    Image.open(io.BytesIO(found[0])).transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=95)
    return [*found, stream.getvalue()]


def text(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode()


def close(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Compare transformers' lists; batches and threads change the last digits of sums."""
    assert [one["label"] for one in found] == [one["label"] for one in wanted] and wanted
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in wanted], rtol=1e-4)
    boxes = [[list(one["box"].values()) for one in several] for several in (found, wanted)]
    np.testing.assert_allclose(*boxes, atol=1e-2)


def metric(client: httpx.Client, name: str, **headers: str) -> float:
    """A value of /metrics."""
    line = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics", headers=headers).text, re.MULTILINE)
    return float(line[1]) if line else 0.0


def test_answers_are_those_of_python_and_of_mlflow(
    client: httpx.Client, detector: RegionCLIP, workspace: Path, pictures: list[bytes]
) -> None:
    """As base64, data URL, Roboflow's object and upload; with each setting, phrases and background."""
    served = RegionCLIPModel()
    served.load_context(PythonModelContext({"bundle": str(workspace)}, {}))
    for content in pictures:
        wanted = detector(content, NAMES, **LOW)
        rows = served.predict(None, pd.DataFrame({"image": [text(content)], "names": [NAMES]}), LOW)
        close(rows["detections"][0], wanted.to_hf())
        encoded = text(content)
        for image in (encoded, f"data:image/png;base64,{encoded}", {"type": "base64", "value": encoded}):
            answer = client.post("/detect", json={"image": image, "names": NAMES, **LOW}).json()
            close(answer["detections"], wanted.to_hf())
            assert (answer["width"], answer["height"]) == wanted.size and answer["time"] > 0
        form = {"names": NAMES, "threshold": "0.001"}
        answer = client.post("/detect", data=form, files={"image": ("../../etc/passwd", content)})
        close(answer.json()["detections"], wanted.to_hf())
    rules: dict[str, Any] = {"top_k": 2, "max_detections": 3, "iou": 0.2, "agnostic": True, "background": ["sea"]}
    names = {"star": ["star", "sun"], "fish": "fish"}
    rules["threshold"] = {"star": 0.002, "fish": 0.001}
    answer = client.post("/detect", json={"image": text(pictures[1]), "names": names, **rules})
    close(answer.json()["detections"], detector(pictures[1], names, **rules).to_hf())


def test_roboflow_gets_its_own_shape(client: httpx.Client, detector: RegionCLIP, pictures: list[bytes]) -> None:
    """Centres and sizes, class and its place; what else its clients send is ignored."""
    image = {"type": "base64", "value": text(pictures[0])}
    body = {"image": image, "text": NAMES, "confidence": 0.001, "api_key": "x", "yolo_world_version_id": "l"}
    answer, wanted = client.post("/infer", json=body).json(), detector(pictures[0], NAMES, **LOW)
    assert answer["image"] == {"width": 160, "height": 120} and answer["time"] > 0
    found = answer["predictions"]
    assert [one["class"] for one in found] == wanted.names and [one["class_id"] for one in found] == list(wanted.labels)
    corners = [
        [one["x"] - one["width"] / 2, one["y"] - one["height"] / 2, one["x"] + one["width"] / 2] for one in found
    ]
    np.testing.assert_allclose(corners, wanted.boxes[:, :3], atol=1e-2)
    np.testing.assert_allclose([one["confidence"] for one in found], wanted.scores, rtol=1e-4)
    assert len({one["detection_id"] for one in found}) == len(found) > 1


def test_own_boxes_are_embedded_and_named(client: httpx.Client, detector: RegionCLIP, pictures: list[bytes]) -> None:
    boxes = [[10, 10, 60.5, 70], [0, 0, 160, 120]]
    body = {"image": text(pictures[0]), "boxes": boxes}
    found = client.post("/features", json=body).json()
    np.testing.assert_allclose(found["features"], detector.features(pictures[0], boxes), rtol=1e-4, atol=1e-5)
    found = client.post("/classify", json=body | {"names": NAMES, "background": ["sea"]}).json()
    assert found["names"] == NAMES and found["width"] == 160
    np.testing.assert_allclose(found["scores"], detector.classify(pictures[0], boxes, NAMES, ["sea"]), rtol=1e-4)
    empty = client.post("/features", json=body | {"boxes": []}).json()
    assert empty["features"] == []


def test_vocabularies_are_kept_named_and_forgotten(
    client: httpx.Client, detector: RegionCLIP, pictures: list[bytes]
) -> None:
    names = {"sofa": ["couch", "sofa"], 'a "quoted" ✶ name': "star"}
    made = client.put("/vocabularies/rooms", json={"names": names, "background": ["sea"]})
    assert made.status_code == 201 and made.json()["names"] == list(names)
    assert client.put("/vocabularies/rooms", json={"names": names, "background": ["sea"]}).status_code == 200
    assert client.get("/vocabularies/rooms").json() == made.json()
    body = {"image": text(pictures[0]), "vocabulary": "rooms", **LOW}
    wanted = detector(pictures[0], names, background=["sea"], **LOW).to_hf()
    close(client.post("/detect", json=body).json()["detections"], wanted)
    for both in (body | {"names": NAMES}, {"image": body["image"]}):
        assert client.post("/detect", json=both).json()["problem"] == "either names or a vocabulary"
    assert client.post("/detect", json=body | {"background": ["x"]}).status_code == 422
    assert client.delete("/vocabularies/rooms").status_code == 204
    assert [client.request(how, "/vocabularies/rooms").status_code for how in ("GET", "DELETE")] == [404, 404]
    assert client.post("/detect", json=body).status_code == 404
    for number in range(64):
        assert client.put(f"/vocabularies/v{number}", json={"names": ["star"]}).status_code == 201
    assert client.put("/vocabularies/more", json={"names": ["star"]}).status_code == 409
    for number in range(64):
        client.delete(f"/vocabularies/v{number}")


def test_who_asks_together_is_answered_together_and_rightly(
    client: httpx.Client, detector: RegionCLIP, pictures: list[bytes]
) -> None:
    """Eight at a time, of two vocabularies and two sizes: fewer calls than questions, each answer that of one alone."""
    asked = [(content, names) for names in (NAMES, ["fish"]) for content in pictures] * 4
    wanted = {(content, *names): detector(content, names, **LOW).to_hf() for content, names in asked[:8]}
    before = [metric(client, f"regionclip_batch_pictures_{what}") for what in ("count", "sum")]

    def ask(one: tuple[bytes, list[str]]) -> list[dict[str, Any]]:
        answer = client.post("/detect", json={"image": text(one[0]), "names": one[1], **LOW})
        return answer.json()["detections"]

    with ThreadPoolExecutor(8) as pool:
        for (content, names), found in zip(asked, pool.map(ask, asked), strict=True):
            close(found, wanted[content, *names])
    count, total = (metric(client, f"regionclip_batch_pictures_{what}") for what in ("count", "sum"))
    assert total - before[1] == len(asked) and (total - before[1]) / (count - before[0]) > 1.5
    assert metric(client, "regionclip_queue_length") == 0
    assert metric(client, 'regionclip_requests_total{method="POST",route="/detect",status="200"}') >= len(asked)
    assert metric(client, 'regionclip_request_seconds_count{route="/detect"}') >= len(asked)
    assert metric(client, "process_resident_memory_bytes") > 0


def bomb(side: int) -> bytes:
    """A PNG of some bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_picture_is_refused_in_words(client: httpx.Client, workspace: Path, pictures: list[bytes]) -> None:
    """Bombs by their header, at once; paths of files that are there and not, in the same words."""
    memory = psutil.Process().memory_info().rss
    file = workspace / "data/sets/coco/val/1.png"
    paths = [
        str(file),
        f"{file}.not",
        "/etc/passwd",
        "file:///etc/passwd",
        "~/.bashrc",
        "../params.yaml",
        "params.yaml",
    ]
    wrong = {
        "bomb": (text(bomb(50_000)), "the image cannot be decoded (Image size (2500000000 pixels) exceeds"),
        "large": (text(bomb(400)), "400 x 400 pixels, more than 100,000"),
        "cut": (text(pictures[0][:-200]), "the image cannot be decoded"),
        "text": (text(b"no picture"), "the image cannot be decoded (not an image of"),
        "empty": ("", "the image cannot be decoded"),
        **{path: (path, "the text is not base64") for path in paths},
        "address": ("http://169.254.169.254/latest/meta-data", "the text is not base64"),
    }
    said = set()
    for image, problem in wrong.values():
        answer = client.post("/detect", json={"image": image, "names": NAMES})
        assert answer.status_code == 422 and answer.json()["problem"].startswith(problem), answer.text
        assert answer.json()["key"] == "image" and answer.json()["mend"]
        said |= {answer.text} if image in paths else set()
        assert str(workspace) not in answer.text and "Traceback" not in answer.text and ".py" not in answer.text
    assert len(said) == 1
    assert psutil.Process().memory_info().rss - memory < 200e6


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ("{", 400 + 22, "the body is not JSON"),
        ("[" * 100_000, 422, "the body is not JSON"),
        ('{"image": ' * 20_000, 422, "the body is not JSON"),
        ("[]", 422, "Input should be an object"),
        ({"image": 5}, 422, "Input should be a valid string"),
        ({"names": "star"}, 422, "Input should be a valid array"),
        ({"names": []}, 422, "there is no name"),
        ({"names": ["star", "star"]}, 422, "the name stands twice"),
        ({"names": [" "]}, 422, "an empty name"),
        ({"names": ["x" * 1001]}, 422, "String should have at most 1000 characters"),
        ({"names": [str(number) for number in range(51)]}, 422, "51 texts, more than 50"),
        ({"names": {"a": [str(number) for number in range(51)]}}, 422, "51 texts, more than 50"),
        ({"names": ["\ud800"]}, 422, "the body is not JSON"),
        ({"threshold": "0.5"}, 422, "Input should be a valid number"),
        ({"threshold": float("nan")}, 422, "Input should be a finite number"),
        ({"threshold": {"fish": 0.5}}, 422, "fish: it is not looked for"),
        ({"threshold": 1.5}, 422, "Input should be less than or equal to 1"),
        ({"top_k": 0}, 422, "Input should be greater than or equal to 1"),
        ({"top_k": 10**30}, 422, "Input should be"),
        ({"agnostic": 1}, 422, "Input should be a valid boolean"),
        ({"path": "/etc/passwd"}, 422, "Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_wrong_forms_are_refused(
    client: httpx.Client, pictures: list[bytes], body: Any, status: int, problem: str
) -> None:
    if isinstance(body, dict):
        body = json.dumps({"image": text(pictures[0]), "names": NAMES} | body)
    answer = client.post("/detect", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["problem"][: len(problem)]) == (status, problem)
    assert "passwd" not in answer.text


def test_other_kinds_methods_and_places_are_refused(client: httpx.Client, pictures: list[bytes]) -> None:
    found = [
        client.post("/detect", content=b"x", headers={"content-type": "text/plain"}),
        client.post("/detect", data={"image": "x"}),
        client.post("/features", files={"image": b"x"}),
        client.post("/detect", files={"picture": b"x"}),
        client.post("/detect", content=b"x", headers={"content-type": "multipart/form-data"}),
        client.post("/detect", files=[("image", b"x"), ("image", b"y")]),
        client.get("/detect"), client.get("/docs"), client.get("/vocabularies/..%2f..%2fetc"),
        client.put("/vocabularies/a b", json={"names": ["star"]}),
        client.get("/health", headers={"host": "evil.test"}),
        client.post("/detect", files={"image": b"x"}, headers={"origin": "http://127.0.0.1.evil.test"}),
        client.post("/detect", files={"image": b"x"}, headers={"origin": "http://localhost:3000"}),
    ]  # fmt: skip
    assert [answer.status_code for answer in found] == [415, 415, 415, 422, 400, 400, 405, 404, 404, 422, 400, 403, 422]
    assert all("Traceback" not in answer.text for answer in found)
    boxes = [[0, 0, 5, 5]] * 900
    huge = {"image": text(pictures[0]), "boxes": boxes, "names": NAMES}
    assert client.post("/classify", json=huge | {"boxes": [[5, 5, 0, 0]]}).json()["key"] == "boxes"
    assert client.post("/features", json={"image": text(pictures[0]), "boxes": boxes * 2}).status_code == 422
    with pytest.raises(InputError, match="1001 boxes by 1000 names"):
        service_inputs.require_answerable(1001, 1000)


def test_huge_bodies_are_refused_before_they_are_read(running: tuple[Running, httpx.Client]) -> None:
    """By their length at once; chunked ones when they grow too long."""
    made, client = running
    with socket.create_connection(("127.0.0.1", made.port), 10) as raw:
        head = (
            f"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: {service.JSON}\r\nContent-Length: {10**12}\r\n"
        )
        raw.sendall(f"{head}\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(10):
            yield b" " * 50_000

    for kind in (service.JSON, "multipart/form-data; boundary=x"):
        answer = client.post("/detect", content=endless(), headers={"content-type": kind})
        assert (answer.status_code, answer.json()["problem"]) == (413, "more than 300,000 bytes")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://localhost:1/", "http://[::1]/x.png",
        "file:///etc/passwd", "ftp://pictures.test/x", "http://pictures.test@127.0.0.1/", "http://pictures.test:22/",
        "http://evil.test/?pictures.test", "//pictures.test/x", "", "http://[", "http://pictures.test:99999999/",
        "http://0x7f.1/", "gopher://pictures.test/", "https://user:word@pictures.test/",
    ],
)  # fmt: skip
def test_addresses_that_are_not_allowed_are_not_asked(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(service_inputs, "_get", lambda *_: pytest.fail("it was asked"))
    for path, names in (("/infer", "text"), ("/detect", "names")):
        answer = client.post(path, json={"image": {"type": "url", "value": url}, names: NAMES})
        assert answer.status_code == 422 and answer.json()["key"] == "image"
        assert answer.json()["problem"] in ("no address of http or https", "its host is not on the server's list")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",
     "fe80::1%1", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"],
)  # fmt: skip
def test_allowed_names_that_lead_inside_are_not_asked(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Also where one of several addresses is public."""
    found = [(0, 0, 0, "", ("93.184.215.14", 80)), (0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(service_inputs.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(InputError, match="not public"):
        service_inputs.fetch("http://pictures.test/x.png", frozenset({"pictures.test"}), 100)


def test_allowed_pictures_are_fetched_but_no_redirect_is_followed(
    client: httpx.Client, detector: RegionCLIP, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Host"]))
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Location", "/1.png")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(20 if self.path == "/slow" else 1):
                    self.wfile.write(pictures[0] if self.path == "/1.png?a=b" else bytes(20))
                    time.sleep(0.1 if self.path == "/slow" else 0)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port, hosts = server.server_port, frozenset({f"pictures.test:{server.server_port}"})
        monkeypatch.setattr(service_inputs, "public_address", lambda *_: "127.0.0.1")
        address = f"http://pictures.test:{port}"
        assert service_inputs.fetch(f"{address}/1.png?a=b", hosts, 10**6) == pictures[0]
        assert asked == [("/1.png?a=b", f"pictures.test:{port}")]
        with pytest.raises(InputError, match="its host answers 302"):
            service_inputs.fetch(f"{address}/moved", hosts, 10**6)
        with pytest.raises(InputError, match="more than 10 bytes"):
            service_inputs.fetch(f"{address}/1.png", hosts, 10)
        monkeypatch.setattr(service_inputs, "_FETCH_SECONDS", 0.3)
        with pytest.raises(InputError, match="not in 0.3 seconds"):
            service_inputs.fetch(f"{address}/slow", hosts, 10**6)
        with pytest.raises(InputError, match="does not give it"):
            service_inputs.fetch(f"https://pictures.test:{port}/1.png", hosts, 10**6)
        server.shutdown()


def test_key_is_wanted_everywhere_but_by_probes(detector: RegionCLIP, pictures: list[bytes]) -> None:
    with Running(detector, LIMITS, KEY) as client:
        body = {"image": text(pictures[0]), "names": NAMES, **LOW}
        for given in ({}, {"authorization": "Bearer x"}, {"authorization": KEY.encode()}):
            for path in ("/detect", "/metrics", "/vocabularies/x", "/nowhere"):
                answer = client.post(path, json=body, headers=given)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert [client.get(path).status_code for path in ("/health", "/ready", "/openapi.json")] == [200] * 3
        assert client.get("/openapi.json").json()["security"] == [{"key": []}]
        answer = client.post("/detect", json=body, headers={"authorization": f"Bearer {KEY}".encode(), "host": "any"})
        close(answer.json()["detections"], detector(pictures[0], NAMES, **LOW).to_hf())


def test_full_late_and_broken_are_said_with_their_status(
    detector: RegionCLIP, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """503 where too many are inside, 504 where the model is slow, 500 with an id only; the loop answers meanwhile."""
    going, body = threading.Event(), {"image": text(pictures[0]), "names": NAMES}

    def stuck(*_: object, **__: object) -> Iterator[Any]:
        going.wait(10)
        raise RuntimeError("a secret of /srv/model")

    monkeypatch.setattr(detector, "detect", stuck)
    with Running(detector, Limits(timeout=1, max_queue=3)) as client, ThreadPoolExecutor(4) as pool:
        several = [pool.submit(client.post, "/detect", json=body) for _ in range(4)]
        time.sleep(0.3)
        begin = time.perf_counter()
        assert client.get("/health").json() == {"alive": True} and time.perf_counter() - begin < 0.5
        answers = sorted((one.result() for one in several), key=lambda answer: answer.status_code)
        assert [answer.status_code for answer in answers] == [503, 504, 504, 504]
        assert answers[0].headers["retry-after"] == "1" and answers[1].json()["problem"] == "no answer in 1 seconds"
        going.set()
        answer = client.post("/detect", json=body)
        assert answer.status_code == 500 and answer.json().keys() == {"problem", "id"} and "secret" not in answer.text
        assert metric(client, "regionclip_requests_inside") == 0
    assert answer.json()["id"] in caplog.text


def test_not_ready_until_the_model_is_loaded() -> None:
    with Running(None, LIMITS) as client:
        assert client.get("/health").status_code == 200 and client.get("/ready").status_code == 503
        answer = client.post("/detect", json={"image": "", "names": NAMES})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_slow_clients_are_cut_off(detector: RegionCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not end and a body that trickles; neither first nor on a connection that was used."""
    monkeypatch.setattr(service_door, "_RECEIVE_SECONDS", 0.6)
    made = Running(detector, Limits(timeout=1))
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    with made:
        for first, trickled in ((b"", b"GET / HTTP/1.1\r\nX: " + b"x" * 90), (b"", body), (ask, b"GET /" + b"x" * 90)):
            with socket.create_connection(("127.0.0.1", made.port), 10) as raw:
                if first:
                    raw.sendall(first)
                    assert b"200 OK" in raw.recv(1000)
                    time.sleep(0.1)
                begin, sent = time.perf_counter(), 0
                with contextlib.suppress(OSError):
                    raw.sendall(trickled[:-40])
                    for sent in range(40):  # noqa: B007
                        raw.sendall(b"x")
                        time.sleep(0.05)
                    assert raw.recv(1) == b""
                assert sent < 39 and time.perf_counter() - begin > 0.4
    monkeypatch.setattr(service_door, "_RECEIVE_SECONDS", 60)
    made = Running(detector, Limits(timeout=1))
    with made, socket.create_connection(("127.0.0.1", made.port), 10) as raw:
        raw.sendall(body + b"{")
        assert raw.recv(100).startswith(b"HTTP/1.1 408 ")


def test_batcher_waits_takes_turns_and_drops_who_gave_up() -> None:
    """A full batch goes at once; one key cannot starve another; a bad item fails alone; the cancelled are not asked."""
    calls: list[list[Any]] = []

    def work(items: list[Any]) -> list[Any]:
        calls.append(items)
        if "bad" in items:
            raise ValueError("bad")
        return [item * 2 for item in items]

    async def scene() -> None:
        batcher = Batcher(2, 5.0, lambda size: None)
        begin = time.perf_counter()
        asked = [asyncio.create_task(batcher(work, number, "a")) for number in range(4)]
        asked += [asyncio.create_task(batcher(work, number, "b")) for number in (8, 9)]
        assert await asyncio.gather(*asked) == [0, 2, 4, 6, 16, 18]
        assert calls == [[0, 1], [8, 9], [2, 3]] and time.perf_counter() - begin < 1
        calls.clear()
        found = await asyncio.gather(*(batcher(work, item, "a") for item in ("bad", 1)), return_exceptions=True)
        assert isinstance(found[0], ValueError) and found[1] == 2 and calls == [["bad", 1], ["bad"], [1]]
        calls.clear()
        gone = asyncio.create_task(batcher(work, 1, "a"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.gather(batcher(work, 2, "a"), batcher(work, 3)) == [4, 6] and len(batcher) == 0
        assert sorted(calls) == [[2], [3]]

    asyncio.run(scene())


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schema_answers_whatever_it_allows(detector: RegionCLIP, pictures: list[bytes], mode: str) -> None:
    """Schemathesis asks in this process what the schema allows, and what it does not: never a fault of the server."""
    import schemathesis  # takes as long as many tests, and one process in two does without it
    from schemathesis.checks import not_a_server_error

    made, seen = Service(LIMITS), set()
    made.model = detector
    schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(made, "key"))

    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and mode == "positive" and case.media_type == service.JSON:
            case.body |= {"image": text(pictures[0])} if "image" in case.body else {}
        answer = case.call(headers={"Authorization": "Bearer key"})
        seen.add((case.operation.label, answer.status_code))
        case.validate_response(answer, checks=[not_a_server_error])

    few = settings(max_examples=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in operations:
        if operation.body or operation.path_parameters:
            few(given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))(ask))()
    wanted = 200 if mode == "positive" else 422
    assert seen >= {("POST /features", wanted), ("POST /infer", wanted)}, seen


def test_memory_is_flat(running: tuple[Running, httpx.Client], pictures: list[bytes]) -> None:
    """Two hundred requests, right and wrong ones."""
    ask_many(running[1], pictures, 60)
    before = psutil.Process().memory_info().rss
    ask_many(running[1], pictures, 140)
    assert psutil.Process().memory_info().rss - before < 30e6


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand(running: tuple[Running, httpx.Client], pictures: list[bytes]) -> None:
    ask_many(running[1], pictures, 1000)
    before = psutil.Process().memory_info().rss
    ask_many(running[1], pictures, 10_000)
    assert psutil.Process().memory_info().rss - before < 50e6


def ask_many(client: httpx.Client, pictures: list[bytes], number: int) -> None:
    """Ask from eight threads; a fifth of the questions has names of its own, a tenth is wrong."""

    def ask(place: int) -> int:
        names = [f"thing {place}", "star"] if place % 5 == 0 else NAMES
        image = text(pictures[place % len(pictures)]) if place % 10 else "no picture"
        return client.post("/detect", json={"image": image, "names": names}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(number))) == {200, 422}


@pytest.mark.parametrize(("arguments", "problem"), [
    (["--host", "0.0.0.0"], "open to others, and there is no key"),
    (["--host", "no.such.host.invalid"], "there is no address"),
    (["--port", "{taken}"], "cannot be listened on"),
    (["--max-queue", "0"], "0 is too little"),
])  # fmt: skip
def test_command_refuses_what_is_open_taken_or_wrong(
    arguments: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(service_door.KEY, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        filled = [one.format(taken=taken.getsockname()[1]) for one in arguments]
        assert main(["serve", *filled]) == 2
    assert problem in capsys.readouterr().err


def test_command_serves_until_it_is_told_to_end(
    workspace: Path, pictures: list[bytes], detector: RegionCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with a key; SIGTERM is the good end."""
    monkeypatch.setenv(service_door.KEY, "word")
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, headers, ended = f"http://127.0.0.1:{port}", {"authorization": "Bearer word"}, threading.Event()

    def ask() -> httpx.Response:
        try:
            with httpx.Client(base_url=address, timeout=30, trust_env=False, headers=headers) as client:
                wait_until_ready(client)
                return client.post("/detect", json={"image": text(pictures[0]), "names": NAMES, **LOW})
        finally:
            # Else it would end the tests.
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        code = main(["serve", "--port", str(port), "--model", str(workspace)])
        ended.set()
        signal.signal(signal.SIGTERM, before)
        close(asked.result().json()["detections"], detector(pictures[0], NAMES, **LOW).to_hf())
    assert code == 0


@pytest.mark.slow
def test_command_as_a_process_says_its_address_and_nothing_else(workspace: Path) -> None:
    """It lives before the model is loaded, is ready afterwards, and ends well."""
    command = [sys.executable, "-m", "regionclip", "serve", "--port", "0", "--model", str(workspace)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            assert client.get("/health").status_code == 200 and client.get("/ready").status_code == 503
            wait_until_ready(client)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "The model is loaded.\n", "")


def wait_until_ready(client: httpx.Client) -> None:
    """Ask until the model is loaded."""
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if client.get("/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError


def test_command_ends_where_there_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--model", str(tmp_path)]) == 2
    assert "params.yaml" in capsys.readouterr().err
