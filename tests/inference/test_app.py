"""The page finds what Python finds, filters without the model, says errors in words and serves no other file."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from regionclip import cli
from regionclip.errors import InputError
from regionclip.inference import RegionCLIP, app
from regionclip.inference.app import LEAST, LOGIN, MOST, Page, open_page, parse_names, serving

NAMES = "star, fish, crown, red circle"
ASKED = (NAMES, "", False)
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def page(workspace: Path) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONCLIP_DEVICE", "cpu")
        return open_page(workspace)[0]


@pytest.fixture(scope="module")
def address(page: Page, workspace: Path) -> Iterator[str]:
    """The page as a server in a thread; for as long as it runs nobody connects to another machine, or asks for one."""
    places, connect, look_up = set(), socket.socket.connect, socket.getaddrinfo

    def watched(self: socket.socket, place: Any) -> None:
        places.add(place[0] if isinstance(place, tuple) else HOST)
        connect(self, place)

    with pytest.MonkeyPatch.context() as patch:
        # The client, not the page, asks Hugging Face what agent it runs in.
        patch.setattr("gradio_client.client.build_hf_headers", lambda **_: {})
        patch.setattr(socket.socket, "connect", watched)
        patch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: places.add(host) or look_up(host, *rest, **more)
        )
        with serving(page, HOST, free_port(), **open_page(workspace)[1]) as address:
            yield address
    assert places - {None} <= {HOST, "localhost", "0.0.0.0"}


@pytest.fixture
def visitor(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture
def searches(page: Page, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the networks had."""
    networks, calls = page.model._networks, []
    search = networks.search
    monkeypatch.setattr(networks, "search", lambda records, rules: calls.append(len(records)) or search(records, rules))
    return calls


def rows(table: dict[str, Any]) -> list[tuple[str, float, str]]:
    """A table that the page sent."""
    return [tuple(row[1:]) for row in table["data"]]


def expected(model: RegionCLIP, picture: Any, threshold: float, **settings: Any) -> list[tuple[str, float, str]]:
    """The same by the Python API."""
    settings = {"background": [], "max_detections": MOST} | settings
    found = model(picture, settings.pop("names", NAMES.split(", ")), threshold=threshold, **settings)
    boxes = [", ".join(f"{side:.0f}" for side in box) for box in found.boxes.tolist()]
    return list(zip(found.names, (round(score, 3) for score in found.scores.tolist()), boxes, strict=True))


def test_finds_what_python_finds_and_sliders_ask_no_model(
    page: Page, visitor: Client, workspace: Path, searches: list[int]
) -> None:
    """For thresholds, numbers of boxes, phrases, background words and one name a place."""
    file = workspace / "data/sets/coco/val/1.png"
    picture = handle_file(file)
    drawing, table = visitor.predict(picture, 0.3, MOST, *ASKED, api_name="/find")
    assert searches == [1] and rows(table) == expected(page.model, file, 0.3) and len(rows(table)) > 2
    assert np.asarray(Image.open(drawing)).shape == (600, 800, 3), "a small picture is shown larger"
    searches.clear()
    for threshold, most in ((0.72, MOST), (LEAST, MOST), (LEAST, 3), (1, 5)):
        _, table = visitor.predict(threshold, most, api_name="/show")
        assert not searches
        assert rows(table) == expected(page.model, file, threshold, max_detections=most)
        searches.clear()
    asked = ("star\nsea: fish, red circle\n crown ,", "wall, sky", True)
    _, table = visitor.predict(picture, LEAST, MOST, *asked, api_name="/find")
    names = {"star": "star", "sea": ["fish", "red circle"], "crown": "crown"}
    assert rows(table) == expected(page.model, file, LEAST, names=names, background=["wall", "sky"], agnostic=True)


def test_both_detectors_are_those_of_the_workspace(page: Page, visitor: Client, workspace: Path) -> None:
    file = workspace / "data/sets/coco/val/2.png"
    clip, regionclip = visitor.predict(handle_file(file), 0.2, MOST, *ASKED, api_name="/compare")
    wanted = {}
    for model, initialisation in ((page._other, "clip"), (page.model, "regionclip")):
        assert model.files.initialisation == initialisation
        found = model(file, NAMES.split(", "), threshold=0.2, max_detections=MOST)
        wanted[initialisation] = np.asarray(app._drawing(found), int)
    for drawing, initialisation, other in ((clip, "clip", "regionclip"), (regionclip, "regionclip", "clip")):
        # As a JPEG it is not the same to the bit.
        near, far = (np.abs(np.asarray(Image.open(drawing)) - wanted[of]).mean() for of in (initialisation, other))
        assert near < 4 and near < far - 0.3


def test_without_the_other_detector_the_page_says_so(page: Page, workspace: Path, tmp_path: Path) -> None:
    page.model.bundle(tmp_path / "bundle")
    bundle, layout = open_page(tmp_path / "bundle")
    assert isinstance(bundle.other, InputError) and not layout
    assert "a bundle holds one detector" in str(app.build(bundle).get_config_file()["components"])


def test_own_boxes_are_drawn_by_corners_named_and_kept_as_examples(page: Page, workspace: Path) -> None:
    """A box of two clicks is classified as Python does it; as an example it is looked for under its name."""
    file, others = (str(workspace / f"data/sets/coco/val/{number}.png") for number in (1, 3))
    corner, boxes, *_ = page.board(file)
    # The picture of 160 x 120 is shown five times as large.
    for at in ([400, 350], [100, 50]):
        corner, boxes, board = page.corner(file, corner, boxes, SimpleNamespace(index=at))
    assert (corner, boxes, board.size) == (None, [[20, 10, 80, 70]], (800, 600))
    corner, same, _ = page.corner(file, [20, 10], boxes, SimpleNamespace(index=[100, 50]))
    assert corner is None and same == boxes, "a box without an extent is none"
    _, table = page.name(file, boxes, *ASKED, [])
    probs = page.model.classify(file, boxes, NAMES.split(", "))[0]
    assert table == [[1, NAMES.split(", ")[probs.argmax()], round(float(probs.max()), 3), "20, 10, 80, 70"]]
    examples, crops, _, left, *_ = page.remember(file, boxes, " patch ", [])
    assert [(crop.size, name) for crop, name in crops] == [((61, 61), "patch")] and left == []
    _, _, table = page.find(others, LEAST, MOST, "", "", False, examples)
    example = app.Example(np.asarray(Image.open(file)), (20, 10, 80, 70))
    wanted = expected(page.model, others, LEAST, names={"patch": example})
    assert len(wanted) and [tuple(row[1:]) for row in table] == wanted
    mixed = page.find(others, LEAST, MOST, "star, patch", "", False, examples)[0]
    both = expected(page.model, others, LEAST, names={"star": "star", "patch": ["patch", example]})
    assert mixed.vocabulary == ("star", "patch") and [tuple(row[1:]) for row in app._table(mixed)] == both
    assert page.forget() == ([], [])
    with pytest.raises(InputError, match="no name"):
        page.remember(file, boxes, " ", [])
    with pytest.raises(InputError, match="there is no box"):
        page.name(file, [], *ASKED, [])


def test_several_pictures_of_which_one_is_broken(page: Page, visitor: Client, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((workspace / "data/sets/coco/val/1.png").read_bytes()[:80])
    files = [workspace / "data/sets/coco/val/1.png", tmp_path / "broken.png", workspace / "data/sets/coco/val/2.png"]
    found = visitor.predict([handle_file(file) for file in files], LEAST, 4, *ASKED, api_name="/others")
    assert [one["caption"] for one in found] == ["1.png: 4 objects", "2.png: 4 objects"]


def test_video_of_every_second_frame(page: Page, visitor: Client, workspace: Path, tmp_path: Path) -> None:
    """Frames 0, 2, 4 of five, as a video that plays as long as the one that was given."""
    frame = cv2.imread(str(workspace / "data/sets/coco/val/1.png"))
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, frame.shape[1::-1])
    for number in range(5):
        film.write(np.roll(frame, 20 * number, axis=1))
    film.release()
    video = handle_file(tmp_path / "film.avi")
    out, table = visitor.predict(video, 2, 0.2, 5, *ASKED, api_name="/video")
    assert {row[0] for row in table["data"]} == {0, 2, 4} and len(table["data"]) == 15
    found = cv2.VideoCapture(out["video"] if isinstance(out, dict) else out)
    shape = [found.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)]
    assert shape == [800, 600, 5]
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(AppError, match="it cannot be opened"):
        video = handle_file(tmp_path / "text.mp4")
        visitor.predict(video, 2, 0.2, 5, *ASKED, api_name="/video")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("star, star", "the name stands twice: &#x27;star&#x27;"),
        (" , ", "there is no name"),
        (": sofa", "an empty name"),
        ("<img src=x>, <img src=x>", "&lt;img src=x&gt;"),
    ],
)
def test_wrong_names_are_said_in_words(visitor: Client, workspace: Path, names: str, words: str) -> None:
    picture = handle_file(workspace / "data/sets/coco/val/1.png")
    with pytest.raises(AppError, match=words):
        visitor.predict(picture, 0.3, MOST, names, "", False, api_name="/find")


def test_broken_pictures_are_named_without_their_folder(visitor: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(AppError, match=r"^a.png: the image cannot be decoded"):
        visitor.predict(handle_file(tmp_path / "a.png"), 0.3, MOST, *ASKED, api_name="/find")


def answer(address: str, **headers: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as found:
            return found.status, dict(found.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def call(address: str, name: str, *data: Any) -> str:
    """Call a function of the page as a stranger would, past the client; returns the stream of events."""
    asked = urllib.request.Request(
        f"{address}gradio_api/call/{name}", json.dumps({"data": data}).encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(asked, timeout=10))["event_id"]
    return urllib.request.urlopen(f"{address}gradio_api/call/{name}/{event}", timeout=10).read().decode()


def test_serves_no_other_file_and_fetches_no_address(visitor: Client, address: str, workspace: Path) -> None:
    """Neither by its path, nor as a picture that was uploaded before, nor through the server."""
    secret = workspace / "params.yaml"
    for asked in (f"file={secret}", "file=/etc/passwd", "file=..%2f..%2fetc/passwd", "file=http://127.0.0.1:9/"):
        assert answer(f"{address}gradio_api/{asked}")[0] in (403, 404), asked
    assert answer(f"{address}gradio_api/file=http://example.com/")[0] == 403
    for given in (str(workspace / "data/sets/coco/val/1.png"), "/etc/hostname"):
        events = call(address, "find", {"path": given, "meta": {"_type": "gradio.FileData"}}, 0.3, MOST, *ASKED)
        assert events.split() == ["event:", "error", "data:", '{"error":', "null}"], "nothing is said of the file"
    for given in ("http://127.0.0.1:9/a.png", "https://example.com/a.png"):
        events = call(address, "find", {"path": given, "meta": {"_type": "gradio.FileData"}}, 0.3, MOST, *ASKED)
        assert "Addresses are not opened" in events
    given = {"path": None, "url": "data:image/png;base64,AAAA", "meta": {"_type": "gradio.FileData"}}
    assert "there is no picture" in call(address, "find", given, 0.3, MOST, *ASKED)


def test_answers_only_to_this_machine_and_lets_the_browser_ask_nobody_else(address: str) -> None:
    status, headers = answer(address)
    assert status == 200 and headers["content-security-policy"].startswith("default-src 'self'")
    for headers in ({"Host": "evil.example:80"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert answer(address, **headers)[0] == 403
    assert answer(address, Origin=address.rstrip("/"))[0] == 200
    for text in ("googleapis", "cdnjs", "gradio.app/"):
        page = urllib.request.urlopen(address, timeout=10).read().decode()
        assert f'src="https://{text}' not in page and f'href="https://fonts.{text}' not in page


def test_open_to_others_only_with_a_login(
    page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["app", "--host", "0.0.0.0", "--model", str(tmp_path)]) == 2
    assert f"there is no login. To mend: set {LOGIN}" in capsys.readouterr().err
    monkeypatch.setenv(LOGIN, "anna")
    assert cli.main(["app", "--model", str(tmp_path)]) == 2 and "it is no login" in capsys.readouterr().err
    monkeypatch.setenv(LOGIN, "anna:a:secret")
    with serving(page, "0.0.0.0", port := free_port()):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.is_dir()
        asked = f"http://{HOST}:{port}/"
        assert answer(f"{asked}config")[0] == 401
        with pytest.raises(ValueError):
            Client(asked, verbose=False, auth=("anna", "wrong"), analytics_enabled=False)
        assert Client(asked, verbose=False, auth=("anna", "a:secret"), analytics_enabled=False)
        monkeypatch.delenv(LOGIN)
        with pytest.raises(InputError, match=f"port {port} of {HOST} cannot be had"), serving(page, HOST, port):
            pass
    assert not folder.exists(), "what visitors brought goes with the page"


def test_names_as_they_are_typed() -> None:
    assert parse_names("a, b c ,\n d") == {"a": ["a"], "b c": ["b c"], "d": ["d"]}
    assert parse_names("sofa: couch, settee\nü, é") == {"sofa": ["couch", "settee"], "ü": ["ü"], "é": ["é"]}
    assert parse_names(" \n") == {} and parse_names("sofa: ") == {"sofa": ["sofa"]}
    with pytest.raises(InputError, match="twice"):
        parse_names("a\na: b")
