"""The page in headless Chromium; as a program it takes the documents' pictures of the page from a finished demo.

python -m tests.ops.page_pictures DEMO [--out docs]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from regionclip.data.layout import detection_set, load_classes
from tests.ops.conftest import HOST, ROOT, free_port, running, status, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SET = "coco"
PATIENCE = 60_000  # ms; a search on a busy machine
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def served(workspace: Path, log: Path) -> Iterator[str]:
    """Run ``regionclip app`` in a workspace; gives its address."""
    port = free_port()
    settings = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-m", "regionclip", "app", "--port", str(port))
    with running(*command, log=log, settings=settings, cwd=workspace) as process:
        address = f"http://{HOST}:{port}/"
        wait_until(lambda: process.poll() is not None or status(address) == 200, 120, "the page")
        assert process.poll() is None, log.read_text()
        yield address


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, with an empty profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium") or "chromium"
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        yield browser
        browser.close()


def open_at(browser: Browser, address: str) -> Page:
    """Open the page and wait until it can be used."""
    page = browser.new_page(viewport={"width": 1400, "height": 900}, device_scale_factor=1)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#names textarea")
    return page


def searched(page: Page, button: str, shown: str) -> None:
    """Press a button and wait for a new picture in a place."""
    before = page.evaluate(f"document.querySelector('{shown} img')?.src")
    page.click(button)
    page.wait_for_function(
        f"before => (now => now && now != before)(document.querySelector('{shown} img')?.src)", arg=before
    )
    page.wait_for_function(f"document.querySelector('{shown} img').complete")


def click_at(page: Page, x: float, y: float) -> None:
    """Click on the board at a part of its width and height, and wait until that is drawn."""
    page.evaluate("document.querySelector('#board img').scrollIntoView({block: 'center', behavior: 'instant'})")
    before = page.evaluate("document.querySelector('#board img').src")
    place = page.evaluate(
        """() => { const image = document.querySelector('#board img'), box = image.getBoundingClientRect();
        const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
        const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
        return [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2, width, height] }"""
    )
    page.mouse.click(place[0] + x * place[2], place[1] + y * place[3])
    page.wait_for_function("before => document.querySelector('#board img').src != before", arg=before)


def take_pictures(demo: Path, out: Path, threshold: float) -> None:
    """Take the two pictures: names found, and an example of a class that no training saw found elsewhere."""
    folder, annotations = detection_set(SET, "val", demo / "data/sets")
    truth = json.loads(annotations.read_text())
    names, novel = (
        {one["id"]: one["name"] for one in truth["categories"]},
        load_classes(SET, demo / "data/sets").novel_names,
    )
    on: dict[int, list[dict]] = {}
    for box in truth["annotations"]:
        on.setdefault(box["image_id"], []).append(box)
    files = {image["id"]: image for image in truth["images"]}
    most = max(on, key=lambda image: len({box["category_id"] for box in on[image]}))
    counted = {name: [i for i in on if name in {names[box["category_id"]] for box in on[i]}] for name in novel}
    wanted = max(counted, key=lambda name: len(counted[name]))
    with tempfile.TemporaryDirectory() as log, served(demo, Path(log) / "app.log") as address, chromium() as browser:
        page = open_at(browser, address)
        page.fill("#names textarea", ", ".join(sorted({names[box["category_id"]] for box in on[most]})))
        page.set_input_files("#picture input[type=file]", folder / files[most]["file_name"])
        page.wait_for_selector("#found img")
        _photograph(page, out / "app.png")

        page = open_at(browser, address)
        first, *others = counted[wanted][:4]
        page.fill("#names textarea", "")
        page.fill("#threshold input[type=number]", str(threshold))
        page.set_input_files("#picture input[type=file]", folder / files[first]["file_name"])
        page.get_by_role("tab", name="Own boxes").click()
        page.wait_for_selector("#board img")
        x, y, width, height = next(box["bbox"] for box in on[first] if names[box["category_id"]] == wanted)
        size = files[first]["width"], files[first]["height"]
        corners = [(x / size[0], y / size[1]), ((x + width) / size[0], (y + height) / size[1])]
        for corner in corners:
            click_at(page, *corner)
        page.fill("#example-name input, #example-name textarea", wanted)
        searched(page, "#remember", "#examples")
        page.set_input_files("#files input[type=file]", [folder / files[other]["file_name"] for other in others])
        page.wait_for_selector("#files .file-preview")
        searched(page, "#search-pictures", "#gallery")
        for corner in corners:
            click_at(page, *corner)
        _photograph(page, out / "app-prompts.png")


def _photograph(page: Page, file: Path) -> None:
    """Take the whole page, in 256 colours, a third of the bytes."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(256).save(file, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--threshold", type=float, default=0.3, help="of the pictures that are searched by an example")
    chosen = parser.parse_args()
    take_pictures(chosen.demo, chosen.out, chosen.threshold)
