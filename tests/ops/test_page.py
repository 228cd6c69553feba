"""The page in a real browser: upload, names, slider, own boxes, examples, both detectors, video; nothing leaves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from regionclip import RegionCLIP, Result
from tests.inference.conftest import workspace  # noqa: F401
from tests.ops.page_pictures import PATIENCE, chromium, click_at, open_at, searched, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ["star", "crown", "red circle"]
MOST = 10


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONCLIP_DEVICE", "cpu")
        with served(workspace, tmp_path_factory.mktemp("page") / "app.log") as address:
            yield address


@pytest.fixture(scope="module")
def model(workspace: Path) -> RegionCLIP:  # noqa: F811
    return RegionCLIP.open(workspace, device="cpu")


@pytest.fixture
def pictures(workspace: Path) -> list[Path]:  # noqa: F811
    return sorted((workspace / "data/sets/coco/val").iterdir())


@pytest.fixture
def page(browser: Browser, address: str, pictures: list[Path]) -> Iterator[Page]:
    """The page with the first picture and three names; at its end all that it asked for was of its own server."""
    page = open_at(browser, address)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.reload()
    page.wait_for_selector("#names textarea")
    page.fill("#names textarea", ", ".join(NAMES))
    page.fill("#most input[type=number]", str(MOST))
    page.set_input_files("#picture input[type=file]", pictures[0])
    page.wait_for_selector("#found img")
    yield page
    assert len(asked) > 20 and not [one for one in asked if not one.startswith((address, "blob:", "data:"))]
    assert not faults
    page.close()


def shown(page: Page, table: str) -> list[list[str]]:
    """What a table shows."""
    return page.evaluate(
        f"""() => [...document.querySelectorAll('#{table} div[role=row]')].map(
        row => [...row.querySelectorAll('[role=gridcell]')].map(cell => cell.innerText.trim()))"""
    )


def rows(found: Result) -> list[list[str]]:
    """What it should."""
    return [
        [str(number), name, f"{round(score, 3):g}", ", ".join(f"{side:.0f}" for side in box)]
        for number, (name, score, box) in enumerate(
            zip(found.names, found.scores.tolist(), found.boxes.tolist(), strict=True), 1
        )
    ]


def wait_for_rows(page: Page, table: str, wanted: list[list[str]]) -> None:
    for _ in range(PATIENCE // 200):
        if [row for row in shown(page, table) if any(row)] == wanted:
            return
        page.wait_for_timeout(200)
    assert shown(page, table) == wanted


def seen(page: Page, place: str) -> np.ndarray:
    """The pixels of a picture on the page."""
    address = page.evaluate(f"document.querySelector('#{place} img').src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())))


def differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two pictures differ by more than a JPEG does."""
    return (np.abs(one.astype(int) - other) > 60).any(axis=2)


def drag(page: Page, *parts: float) -> float:
    """Drag the threshold's slider from where it is over parts of its width; returns the threshold."""
    slider = page.locator("#threshold input[type=range]").bounding_box()
    height, start = slider["y"] + slider["height"] / 2, float(page.input_value("#threshold input[type=number]"))
    page.mouse.move(slider["x"] + start * slider["width"], height)
    page.mouse.down()
    for part in parts:
        page.mouse.move(slider["x"] + part * slider["width"], height)
    page.mouse.up()
    return float(page.input_value("#threshold input[type=number]"))


def test_upload_type_drag(page: Page, model: RegionCLIP, pictures: list[Path]) -> None:
    """Boxes, scores and pixels are Python's before and after the threshold's slider was dragged."""
    wanted = model(pictures[0], NAMES, max_detections=MOST)
    wait_for_rows(page, "objects", rows(wanted))
    large = np.asarray(Image.fromarray(wanted.pixels).resize((800, 600)))
    x1, _, x2, y2 = (round(5 * side) for side in wanted.boxes[0].tolist())
    drawn = differs(seen(page, "found"), large)
    assert drawn[min(y2, 599), x1 + 2 : x2 - 2].mean() > 0.9, "the lower edge of the surest box"
    lengths = [len(wanted)]
    for parts in ((0.25, 0.2, 0.15), (0.3, 0.6, 0.9), (0.7, 0.5)):
        threshold = drag(page, *parts)
        assert abs(threshold - parts[-1]) < 0.1
        dragged = model(pictures[0], NAMES, threshold=threshold, max_detections=MOST)
        wait_for_rows(page, "objects", rows(dragged))
        lengths.append(len(dragged))
    assert lengths == [7, MOST, 0, 7]
    page.wait_for_timeout(3000)  # the table came, but the slider's last drawing may still be under way
    source = page.evaluate("document.querySelector('#found img').src")
    page.locator("#objects [role=gridcell]").first.click()
    page.wait_for_function("source => document.querySelector('#found img').src != source", arg=source)
    assert 0 < differs(seen(page, "found"), large).sum() < drawn.sum() / 2, "one of seven boxes is left"
    page.fill("#names textarea", "star, star")
    page.click("#find")
    page.get_by_text("the name stands twice").wait_for()


def test_example_picture_by_a_click_and_names_by_the_keyboard(
    page: Page, model: RegionCLIP, pictures: list[Path]
) -> None:
    page.locator(".gallery-item, .gallery button").nth(2).click()
    wait_for_rows(page, "objects", rows(model(pictures[2], NAMES, max_detections=MOST)))
    page.fill("#names textarea", "fish\nsky: star, crown")
    page.press("#names textarea", "Shift+Enter")
    meant = {"fish": "fish", "sky": ["star", "crown"]}
    wait_for_rows(page, "objects", rows(model(pictures[2], meant, max_detections=MOST)))


def test_draw_a_box_name_it_and_look_for_it_elsewhere(page: Page, model: RegionCLIP, pictures: list[Path]) -> None:
    page.get_by_role("tab", name="Own boxes").click()
    page.wait_for_selector("#board img")
    click_at(page, 0.5, 0.5)
    click_at(page, 0.125, 0.1)
    searched(page, "#name-boxes", "#board")
    ((number, name, score, box),) = shown(page, "named")
    assert number == "1" and np.allclose([float(side) for side in box.split(",")], [20, 12, 80, 60], atol=1)
    probs = model.classify(pictures[0], [[20, 12, 80, 60]], NAMES)[0]
    assert name == NAMES[probs.argmax()] and abs(float(score) - probs.max()) < 0.02
    page.fill("#names textarea", "")
    page.fill("#example-name input, #example-name textarea", "patch")
    searched(page, "#remember", "#examples")
    page.fill("#threshold input[type=number]", "0.01")
    page.set_input_files("#files input[type=file]", pictures[1:])
    page.wait_for_selector("#files .file-preview")
    searched(page, "#search-pictures", "#gallery")
    page.get_by_text("2.png: 7 objects").wait_for()
    page.get_by_text("3.png: 7 objects").wait_for()


def test_both_detectors_side_by_side(page: Page) -> None:
    page.get_by_role("tab", name="CLIP beside").click()
    page.click("#compare")
    page.wait_for_selector("#clip img")
    page.wait_for_selector("#regionclip img")
    assert differs(seen(page, "clip"), seen(page, "regionclip")).sum() > 500


def test_video_plays_with_its_boxes(page: Page, pictures: list[Path], tmp_path: Path) -> None:
    frame = cv2.imread(str(pictures[0]))
    film = cv2.VideoWriter(str(tmp_path / "film.webm"), cv2.VideoWriter.fourcc(*"VP80"), 10, frame.shape[1::-1])
    for number in range(10):
        film.write(np.roll(frame, 20 * number, axis=1))
    film.release()
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", tmp_path / "film.webm")
    page.wait_for_selector("#video video")
    page.click("#search-video")
    page.wait_for_function("document.querySelector('#film video')?.videoWidth == 800")
    assert {row[0] for row in shown(page, "frames")} == {"0", "5"}
