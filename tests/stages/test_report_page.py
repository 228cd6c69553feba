"""The page of the report shows what there is, loads nothing from elsewhere, and takes names as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from regionclip.stages.report_page import report_page

MODEL = {"before": {"top1_base": 0.5, "top1_novel": 0.25}, "after": {"top1_base": 0.75, "top1_novel": 0.125}}
SURE = {"surest": {"detections": 9, "score": 0.25, "right": 4, "confusion": 5}}
SUMMARY: dict[str, Any] = {
    **{"profile": "<b>demo</b>", "seed": 1, "split": "val", "protocols": {"coco": "generalised"}, "mean": {}},
    **{"seconds": {"data": 90.0}, "teacher": {"crop_top1": 0.5}, "pseudo_labels": {}},
    "rpn": {"coco": {"ar100_base": 0.5, "ar100_novel": 0.4}},
    "zero_shot": {"coco": {"gt": {"regionclip": {"top1_base": 0.5}}, "rpn": {}}},
    "open_vocabulary": {"coco": {"clip": {"ap50_novel": 0.25}, "regionclip": {"ap50_novel": 0.5}}},
    "true_boxes": {"coco": {"clip": MODEL, "regionclip": MODEL}},
    "errors": {"coco": {"regionclip": SURE}},
    "boxes": {"coco": {"val": {"file": 9, "used": 8, "not_used": {"<i>empty</i>": 1}}}},
}
GATES = {"check_data": {"expectations": 104, "warnings": 3}}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text, self.open = [], [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page() -> _Reader:
    reader = _Reader()
    reader.feed(report_page(SUMMARY, {"summary.png", "errors_coco.png", "strange.png"}, GATES))
    assert reader.open == []
    return reader


def test_page_shows_the_numbers_under_their_headings(page: _Reader) -> None:
    text = " ".join(" ".join(page.text).split())
    assert "coco after fine-tuning on base boxes, AP50 novel 25.0 50.0 +25.0" in text
    assert "coco novel classes 25.0 12.5 25.0 12.5" in text
    assert "right box, another name of its group – 5" in text and "check_data 104 3 checks/check_data.json" in text
    places = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(places) == 8 and places == {link[1:] for link in links if link.startswith("#")}


def test_page_loads_only_pictures_that_lie_beside_it(page: _Reader) -> None:
    shown = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert shown == ["plots/summary.png", "plots/errors_coco.png"]
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "b", "i"})
    text = report_page(SUMMARY, {"summary.png"}, GATES)
    assert "://" not in text and "default-src 'none'" in text and not re.search(r'="/', text)
    assert "&lt;b&gt;demo&lt;/b&gt;" in text and "&lt;i&gt;empty&lt;/i&gt;" in text
