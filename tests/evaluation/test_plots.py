"""Pictures: every one is a readable PNG of the expected size, with the same bytes every time, also from thin data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.data.annotations.truth import BoxColumns
from regionclip.evaluation.detection_errors import KINDS
from regionclip.evaluation.plots import (
    SceneBoxes,
    detection_sheet,
    error_bars,
    learning_curves,
    mistake_sheet,
    per_class_bars,
    pseudo_label_quality,
    scene_boxes,
    summary_picture,
)
from regionclip.evaluation.plots.sheet import _right
from regionclip.evaluation.plots.summary import _panels

SCENE = np.full((40, 60, 3), 120, dtype=np.uint8)
STAR = SceneBoxes(np.array([[5.0, 5.0, 25.0, 25.0]]), ["star"])
STAR_FOUND = SceneBoxes(STAR.boxes + 1, ["star"], np.array([0.9]))
BINS = [
    {"low": 0.0, "high": 0.5, "regions": 4, "kept": 0, "on_object": 0.5, "precision": None},
    {"low": 0.5, "high": 1.0, "regions": 6, "kept": 5, "on_object": 0.9, "precision": 0.8},
]
SUMMARY = {
    "profile": "demo",
    "protocols": {"coco": "generalised", "lvis": "federated"},
    "zero_shot": {"coco": {"gt": {"clip": {"top1_novel": 0.4}, "regionclip": {"top1_novel": 0.7}}}},
    "open_vocabulary": {"lvis": {"clip": {"apr": 0.1}, "regionclip": {"apr": None}}},
}
MISTAKES = {
    "ap50": {"all": 0.5, "base": 0.6, "novel": 0.4},
    "ap50_lost": {kind: {"all": 0.1, "base": 0.2, "novel": None} for kind in KINDS},
}
MISTAKE = {
    "found": {"name": "star", "box": [5, 5, 20, 20], "score": 0.9},
    "object": {"name": "m$", "box": [9, 9, 9, 9]},
}

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "bars": lambda path: per_class_bars({"star": 0.2, "moon": 0.5}, {"star": 0.6, "moon": 0.4}, ["moon"], path, "AP50"),
    "curves": lambda path: learning_curves(
        {"pretrain": [{"step": i, "loss": 1 / (i + 1)} for i in range(50)], "rpn": [{"step": 1, "loss": 0.5}]}, path
    ),
    "quality": lambda path: pseudo_label_quality(BINS, path),
    "summary": lambda path: summary_picture(SUMMARY, path),
    "errors": lambda path: error_bars({"CLIP": MISTAKES, "RegionCLIP": MISTAKES}, path, "coco"),
    "mistakes": lambda path: mistake_sheet({"duplicate": [(SCENE, MISTAKE)], "missed": []}, {"star"}, path, "coco"),
    "sheet": lambda path: detection_sheet(
        [SCENE], [STAR], {"CLIP": [STAR_FOUND], "RegionCLIP": [STAR_FOUND]}, {"star"}, path
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_data_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for path in (first, second):
        DRAWINGS[name](path)
    assert first.read_bytes() == second.read_bytes()
    picture = cv2.imread(str(first))
    assert min(picture.shape[:2]) >= 200 and picture.std() > 5, "the picture is empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: per_class_bars({}, {}, [], path, "AP50"),
        lambda path: per_class_bars({"star": 0.0}, {"star": 0.0}, ["star"], path, "AP50"),
        lambda path: learning_curves({}, path),
        lambda path: learning_curves({"rpn": []}, path),
        lambda path: pseudo_label_quality([BINS[0] | {"regions": 0, "on_object": None}], path),
        lambda path: summary_picture({"protocols": {}}, path),
        lambda path: error_bars(
            {"CLIP": MISTAKES | {"ap50": {"all": None, "base": None, "novel": None}}}, path, "coco"
        ),
        lambda path: mistake_sheet({}, (), path, "coco"),
    ],
)
def test_nothing_to_draw_is_drawn_as_nothing(draw: Callable[[Path], None], tmp_path: Path) -> None:
    draw(tmp_path / "empty.png")
    assert cv2.imread(str(tmp_path / "empty.png")) is not None


def test_a_closed_set_beside_others_shows_the_numbers_that_it_has() -> None:
    protocols = {"coco": "generalised", "toys": "closed_set"}
    recognised, detected, kept = (groups for _, _, groups in _panels({"protocols": protocols}))
    assert [key for *_, key in recognised] == ["top1_novel", "top1_all"]
    assert [key for *_, key in detected] == ["ap50_novel", "ap"] and [key for *_, key in kept] == ["ap50_base", "ap50"]


def test_many_classes_stay_on_one_page(tmp_path: Path) -> None:
    clip = {f"class {i}": i / 400 for i in range(200)}
    per_class_bars(clip, {name: value + 0.1 for name, value in clip.items()}, [], tmp_path / "many.png", "AP")
    assert cv2.imread(str(tmp_path / "many.png")).shape[0] < 3200


def test_a_sheet_shows_scenes_at_three_times_their_size(tmp_path: Path) -> None:
    """One row of three columns: each scene takes 120 by 180 dots; the ground's grey is there that often at least."""
    empty = SceneBoxes(np.zeros((0, 4)), [])
    detection_sheet([SCENE], [empty], {"CLIP": [empty], "RegionCLIP": [empty]}, [], tmp_path / "sheet.png")
    grey = (cv2.imread(str(tmp_path / "sheet.png")) == 120).all(axis=2).sum()
    assert grey == pytest.approx(3 * 120 * 180, rel=0.01)


def test_a_detection_is_right_by_name_and_overlap() -> None:
    truth = SceneBoxes(np.array([[0, 0, 10, 10], [20, 20, 30, 30]]), ["star", "moon"])
    boxes = np.array([[0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 10], [20, 20, 30, 30]])
    found = SceneBoxes(boxes, ["star", "star", "moon", "moon"], np.ones(4))
    assert _right(found, truth) == [True, False, False, True]
    assert _right(found, SceneBoxes(np.zeros((0, 4)), [])) == [False] * 4


def test_a_sheet_takes_the_best_results_of_a_scene() -> None:
    columns = BoxColumns()
    columns.add(7, 1, [0, 0, 5, 5], score=0.2)
    columns.add(7, 2, [1, 1, 5, 5], score=0.9)
    columns.add(8, 2, [9, 9, 5, 5], score=1.0)
    columns.add(7, 1, [2, 2, 5, 5], score=0.6)
    results = columns.arrays()
    chosen = scene_boxes(results, 7, {1: "star", 2: "moon"}, limit=5, min_score=0.5)
    assert chosen.names == ["moon", "star"]
    np.testing.assert_array_equal(chosen.boxes, [[1, 1, 6, 6], [2, 2, 7, 7]])
    assert len(scene_boxes(results, 7, {1: "star", 2: "moon"}, limit=1).names) == 1


def test_a_sheet_takes_scenes_of_any_size(tmp_path: Path) -> None:
    """The largest sets the scale: its longer side takes 640 dots, and there are two rows."""
    empty = SceneBoxes(np.zeros((0, 4)), [])
    scenes = [np.full(size, 120, np.uint8) for size in ((960, 1280, 3), (300, 100, 3))]
    detection_sheet(scenes, [empty] * 2, {"CLIP": [STAR_FOUND] * 2}, [], tmp_path / "sheet.png")
    height, width = cv2.imread(str(tmp_path / "sheet.png")).shape[:2]
    assert (height, width) == (104 + 2 * (480 + 14), 14 + 2 * (640 + 14))


NAMES = st.text(max_size=30) | st.sampled_from(
    [
        "$\\foo$",
        "$_$",
        "US$ and A$",
        "a_b^c",
        "\ud800",
        "\0",
        "two\nlines",
        "\x1b[31m",
        "漢字",
        "نجمة",
        "👩‍👩‍👧",
        "x" * 50_000,
    ]
)


@settings(max_examples=8)
@given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
def test_any_name_is_text(names: list[str]) -> None:
    """With dollar signs, which matplotlib takes for formulas, in any script, and with what no font draws."""
    found = SceneBoxes(np.array([[5.0, 5.0, 25.0, 25.0]] * len(names)), names, np.full(len(names), 0.9))
    truth = SceneBoxes(found.boxes, names)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        per_class_bars(dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.6), names[:1], folder / "bars.png", "AP50")
        detection_sheet([SCENE], [truth], {"CLIP": [found]}, set(names[:1]), folder / "sheet.png")
        summary_picture(SUMMARY | {"profile": names[0]}, folder / "summary.png")
        example = {"object": {"name": names[0], "box": [5, 5, 20, 20]}}
        mistake_sheet({"missed": [(SCENE, example)]}, (), folder / "mistakes.png", "coco")
        for path in folder.iterdir():
            assert max(cv2.imread(str(path)).shape) < 3000


def test_dollar_signs_are_drawn(tmp_path: Path) -> None:
    """As a formula, the name would be the same picture as the one without them."""
    for name, file in (("$a$", "with.png"), ("a", "without.png")):
        per_class_bars({name: 0.5}, {name: 0.6}, (), tmp_path / file, "AP50")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()
