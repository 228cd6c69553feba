"""Pascal VOC and YOLO folders become COCO-style files with the same boxes, computed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from regionclip.errors import InputError
from regionclip.files import read_json

OBJECT = (
    "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def convert() -> object:
    """The converter; the library is an extra."""
    pytest.importorskip("supervision")
    from regionclip.workspace.convert import convert

    return convert


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two annotated pictures and one without a file; 1-based corners, both included."""
    root = tmp_path / "VOC2007"
    for name in ("000002", "000001", "000003"):
        _picture(root / f"JPEGImages/{name}.jpg")
    (root / "Annotations").mkdir()
    size = "<size><width>100</width><height>50</height><depth>3</depth></size>"
    for name, objects in {
        "000001": [("dog", 1, 1, 100, 50)],
        "000002": [("cat", 11, 21, 30, 40), ("dog", 5, 5, 5, 5)],
    }.items():
        body = "".join(OBJECT.format(*entry) for entry in objects)
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{body}</annotation>")
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/val.txt").write_text("000001\n")
    (root / "ImageSets/Main/dog_val.txt").write_text("000001  1\n000002 -1\n")
    return root


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A folder as Roboflow writes it: relative centres and sizes; one picture without label file."""
    root = tmp_path / "toys"
    for name in ("b", "a", "c"):
        _picture(root / f"train/images/{name}.jpg")
    (root / "train/labels").mkdir()
    (root / "train/labels/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (root / "train/labels/b.txt").write_text("0 0.1 0.2 0.2 0.4\n1 0.75 0.5 0.5 1\n")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    return root


def test_voc_corners_become_boxes_by_hand(convert: object, voc: Path, tmp_path: Path) -> None:
    """(1, 1)..(100, 50) with both ends included is the whole picture; (5, 5)..(5, 5) is one pixel."""
    line = convert("voc", voc, tmp_path / "out.json")
    content = read_json(tmp_path / "out.json")
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [image["file_name"] for image in content["images"]] == [f"JPEGImages/00000{i}.jpg" for i in (1, 2, 3)]
    assert [(a["image_id"], names[a["category_id"]], a["bbox"], a["area"]) for a in content["annotations"]] == [
        (1, "dog", [0, 0, 100, 50], 5000),
        (2, "cat", [10, 20, 20, 20], 400),
        (2, "dog", [4, 4, 1, 1], 1),
    ]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(100, 50)}
    assert "3 images, 3 annotations, 2 categories; 1 without annotation file, kept as empty: '000003.jpg'" in line


@pytest.mark.parametrize(("split", "boxes"), [("val", 1), ("dog_val", 3)])
def test_voc_lists_choose_pictures_and_leave_the_classes(
    convert: object, voc: Path, tmp_path: Path, split: str, boxes: int
) -> None:
    convert("voc", voc, tmp_path / "out.json", split)
    content = read_json(tmp_path / "out.json")
    assert len(content["annotations"]) == boxes and len(content["categories"]) == 2


def test_yolo_centres_become_boxes_by_hand(convert: object, yolo: Path, tmp_path: Path) -> None:
    line = convert("yolo", yolo, tmp_path / "out.json")
    content = read_json(tmp_path / "out.json")
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [image["file_name"] for image in content["images"]] == [f"train/images/{name}.jpg" for name in "abc"]
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]] == [
        (1, 2, [40, 15, 20, 20]),
        (2, 1, [0, 0, 20, 20]),
        (2, 2, [50, 0, 50, 50]),
    ]
    assert "1 without annotation file, kept as empty: 'c.jpg'" in line


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_the_same_folder_gives_the_same_bytes(
    convert: object, form: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(form)
    for out in ("a.json", "b.json"):
        convert(form, folder, tmp_path / out)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_result_is_one_s_own_data(convert: object, yolo: Path, tmp_path: Path) -> None:
    from regionclip.workspace.own_set import read_own_set

    convert("yolo", yolo, tmp_path / "out.json")
    own = read_own_set(
        dict.fromkeys(("train", "val"), tmp_path / "out.json"), dict.fromkeys(("train", "val"), yolo), None, None
    )
    assert own.classes.base == ["cat", "dog"]
    assert own.faults == ["3 pictures are in train and in val: 'a.jpg', 'b.jpg', 'c.jpg'"]


@pytest.mark.parametrize(
    ("form", "spoil", "split", "message"),
    [
        ("voc", lambda r: (r / "Annotations/000001.xml").write_text("<annotation>"), None, "not in the form of voc"),
        ("voc", lambda r: (r / "JPEGImages/000001.jpg").write_bytes(b""), None, "not in the form of voc"),
        ("voc", lambda r: None, "test", r"test\.txt: the list does not exist"),
        ("voc", lambda r: (r / "JPEGImages/000001.jpg").unlink(), "val", "not there: '000001'"),
        ("voc", lambda r: (r / "Annotations").rename(r / "xml"), None, "Annotations: the folder does not exist"),
        ("yolo", lambda r: (r / "train/labels/a.txt").write_text("1 0.5 nan 0.2 0.4"), None, r"a\.txt"),
        ("yolo", lambda r: (r / "train/labels/a.txt").write_text("1 0.5 0.2"), None, r"at least 5 tokens"),
        (
            "yolo",
            lambda r: (r / "train/labels/a.txt").write_text("7 0.5 0.5 0.2 0.4"),
            None,
            r"not in the form of yolo",
        ),
        ("yolo", lambda r: (r / "data.yaml").write_text("train: train/images"), None, "names"),
        ("yolo", lambda r: (r / "data.yaml").unlink(), None, r"data\.yaml: the file does not exist"),
        ("yolo", lambda r: None, "test", r"data\.yaml, key 'test': there is no such split"),
        ("yolo", lambda r: None, "val", r"the folder does not exist"),
    ],
)
def test_what_is_not_of_its_form_is_named_and_nothing_is_written(
    convert: object,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    form: str,
    spoil: object,
    split: object,
    message: str,
) -> None:
    folder = request.getfixturevalue(form)
    spoil(folder)
    with pytest.raises(InputError, match=message):
        convert(form, folder, tmp_path / "out.json", split)
    assert not (tmp_path / "out.json").exists()


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from regionclip.workspace.convert import convert

    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"supervision\. To mend: install it: pip install 'regionclip\[convert\]'"):
        convert("voc", tmp_path, tmp_path / "out.json")
