"""Results in the forms of other tools hold the same objects, and their own readers take them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from regionclip.errors import InputError
from regionclip.inference import Result

MASKS = np.zeros((3, 30, 40), bool)
MASKS[0, 2:6, 1:11] = MASKS[1, 10:20, 20:40] = True


def result(masks: bool = False) -> Result:
    """Three objects on a picture of 40 x 30."""
    boxes = np.array([[1, 2, 11, 6], [20, 10, 40, 20], [0, 0, 5, 5]], np.float32)
    pixels = np.full((30, 40, 3), 200, np.uint8)
    scores = np.array([0.9, 0.5, 0.25], np.float32)
    return Result("a/b.jpg", pixels, ("cat", "dog"), boxes, scores, np.array([1, 0, 1]), MASKS if masks else None)


def test_objects_are_selected_as_rows() -> None:
    one = result(masks=True)
    assert (len(one), one.names, one.size) == (3, ["dog", "cat", "dog"], (40, 30))
    assert one[0].names == ["dog"] and one[1:].scores.tolist() == [0.5, 0.25] and one[[2, 0]].masks.shape == (2, 30, 40)
    assert one.filter(["dog"]).scores.tolist() == [np.float32(0.9), 0.25] and one.filter(threshold=0.5).names == [
        "dog",
        "cat",
    ]
    assert len(one[one.scores > 1]) == 0 and "dog 0.90" in repr(one)
    with pytest.raises(InputError, match="record bird"):
        one.filter(["bird"])


def test_transformers_form() -> None:
    first = result().to_hf()[0]
    assert first == {"score": pytest.approx(0.9), "label": "dog", "box": {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 6}}


def test_coco_tools_load_it() -> None:
    """pycocotools takes boxes and masks; the mask's area is that of its pixels."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 7, "width": 40, "height": 30}], "annotations": [],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }  # fmt: skip
    with redirect_stdout(io.StringIO()):
        truth.createIndex()
        rows = result(masks=True).to_coco(7, {"cat": 3, "dog": 5})
        loaded = truth.loadRes(rows[:2])
    assert [(one["category_id"], one["bbox"]) for one in rows[:2]] == [(5, [1, 2, 10, 4]), (3, [20, 10, 20, 10])]
    assert [one["area"] for one in loaded.dataset["annotations"]] == [40, 200]
    assert rle.area(rows[0]["segmentation"]) == 40 and "segmentation" not in result().to_coco()[0]
    assert [one["category_id"] for one in result().to_coco()] == [2, 1, 2]


def test_supervision_and_pandas_take_it() -> None:
    found = result(masks=True).to_supervision()
    assert isinstance(found, supervision.Detections) and found.area.tolist() == [40, 200, 0]
    assert found[found.confidence > 0.4].data["class_name"].tolist() == ["dog", "cat"]
    table = result().to_dataframe()
    assert list(table.columns) == ["source", "name", "score", "x1", "y1", "x2", "y2"]
    assert table[table.name == "cat"].x2.tolist() == [40]


def test_yolo_lines() -> None:
    """Of the picture's sides: the first box is centred at 6 / 40, 4 / 30 and 10 / 40 wide, 4 / 30 high."""
    assert result().to_yolo().splitlines()[0] == "1 0.150000 0.133333 0.250000 0.133333 0.900000"


def test_drawing_is_the_picture_with_its_boxes(tmp_path: Path) -> None:
    """Pixels outside boxes, labels and masks stay; a file gets the form of its ending."""
    drawn = np.asarray(result().plot(tmp_path / "out.png"))
    assert drawn.shape == (30, 40, 3) and (drawn[29, 0] == 200).all() and (drawn[10, 30] != 200).any()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), drawn)
    result(masks=True)[:0].plot(tmp_path / "none.jpg")
    assert Image.open(tmp_path / "none.jpg").format == "JPEG"
    shaded = np.asarray(result(masks=True).plot())
    assert (shaded[15, 30] != 200).any() and not list(tmp_path.rglob("*.tmp"))


def test_drawings_of_one_name_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's drawings have the paths of their pictures, and none leaves it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    inside = {"a/1.jpg": "a/1.jpg", "a/1.png": "a/1.png", "b/1.jpg": "b/1.jpg", "a/../1.jpg": "1.jpg"}
    frames = {"film.avi#1": "film.avi_000001.jpg", "film.mp4#1": "film.mp4_000001.jpg", "picture 0": "picture 0.png"}
    outside = {"../1.jpg": f"{tmp_path.relative_to('/')}/1.jpg"}
    for source in inside | frames | outside:
        replace(result(), source=source).plot("out")
    written = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert written == {*inside.values(), *frames.values(), *outside.values()}
    result().plot("out", root="a")
    assert Image.open("out/b.jpg").format == "JPEG"
