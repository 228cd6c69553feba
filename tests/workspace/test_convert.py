"""Pascal VOC and YOLO folders become COCO-style files with the same boxes, by hand; nothing is lost without a count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.workspace.convert import convert

OBJECT = (
    "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"
SOUND = OBJECT.format("dog", 11, 11, 20, 20)


def _picture(path: Path, size: tuple[int, int] = (100, 50), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, format=options.pop("format", "JPEG"), **options)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _annotation(*inner: str) -> str:
    return f"<annotation>{''.join(inner)}</annotation>"


def _converted(form: str, folder: Path, split: str | None = None) -> tuple[dict, list[dict], str]:
    """Return the file, the rejects and what was said."""
    out = folder.parent / "out.json"
    said = convert(form, folder, out, split)
    rejects = folder.parent / "out_rejected.jsonl"
    lines = rejects.read_text().splitlines() if rejects.exists() else []
    return read_json(out), [json.loads(line) for line in lines], said


def _names(content: dict) -> list[str]:
    return [image["file_name"] for image in content["images"]]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two annotated pictures and one without a file; 1-based corners, both included."""
    root = tmp_path / "VOC2007"
    for name in ("000002", "000001", "000003"):
        _picture(root / f"JPEGImages/{name}.jpg")
    for name, objects in {
        "000001": [("dog", 1, 1, 100, 50)],
        "000002": [("cat", 11, 21, 30, 40), ("dog", 5, 5, 5, 5)],
    }.items():
        body = "".join(OBJECT.format(*entry) for entry in objects)
        _write(root / f"Annotations/{name}.xml", _annotation(SIZE, body))
    _write(root / "ImageSets/Main/val.txt", "000001\n")
    _write(root / "ImageSets/Main/dog_val.txt", "000001  1\n000002 -1\n")
    return root


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A folder as Roboflow writes it: relative centres and sizes; one picture without label file."""
    root = tmp_path / "toys"
    for name in ("b", "a", "c"):
        _picture(root / f"train/images/{name}.jpg")
    _write(root / "train/labels/a.txt", "1 0.5 0.5 0.2 0.4\n")
    _write(root / "train/labels/b.txt", "0 0.1 0.2 0.2 0.4\n1 0.75 0.5 0.5 1\n")
    _write(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    return root


def test_voc_corners_become_boxes_by_hand(voc: Path) -> None:
    """(1, 1)..(100, 50) with both ends included is the whole picture; (5, 5)..(5, 5) is one pixel."""
    content, rejects, said = _converted("voc", voc)
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert _names(content) == [f"JPEGImages/00000{i}.jpg" for i in (1, 2, 3)] and not rejects
    assert [(a["image_id"], names[a["category_id"]], a["bbox"], a["area"]) for a in content["annotations"]] == [
        (1, "dog", [0, 0, 100, 50], 5000),
        (2, "cat", [10, 20, 20, 20], 400),
        (2, "dog", [4, 4, 1, 1], 1),
    ]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(100, 50)}
    assert "3 images, 3 annotations, 2 categories; 1 without annotation file, kept as empty: '000003.jpg'" in said


@pytest.mark.parametrize(("split", "boxes"), [("val", 1), ("dog_val", 3)])
def test_voc_lists_choose_pictures_and_leave_the_classes(voc: Path, split: str, boxes: int) -> None:
    content, rejects, _ = _converted("voc", voc, split)
    assert len(content["annotations"]) == boxes and len(content["categories"]) == 2 and not rejects


def test_a_voc_list_s_missing_pictures_are_counted_and_odd_lines_read(voc: Path) -> None:
    _picture(voc / "JPEGImages/my photo.jpg")
    _write(voc / "Annotations/my photo.xml", _annotation(SOUND))
    lines = "000001.jpg\r\nJPEGImages\\000002\r\n\r\nmy photo  -1\r\nnowhere\r\n"
    _write(voc / "ImageSets/Main/odd.txt", b"\xef\xbb\xbf" + lines.encode())
    content, rejects, said = _converted("voc", voc, "odd")
    assert [Path(name).stem for name in _names(content)] == ["000001", "000002", "my photo"]
    assert [line["record"] for line in rejects] == ["line 5"] and "1 x the picture of the list is not there" in said


def test_yolo_centres_become_boxes_by_hand(yolo: Path) -> None:
    content, rejects, said = _converted("yolo", yolo)
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}] and not rejects
    assert _names(content) == [f"train/images/{name}.jpg" for name in "abc"]
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]] == [
        (1, 2, [40, 15, 20, 20]),
        (2, 1, [0, 0, 20, 20]),
        (2, 2, [50, 0, 50, 50]),
    ]
    assert "1 without annotation file, kept as empty: 'c.jpg'" in said


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_the_same_folder_gives_the_same_bytes(form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(form)
    for out in ("a.json", "b.json"):
        convert(form, folder, tmp_path / out)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_the_result_is_one_s_own_data(form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from regionclip.workspace.own_set import read_own_set

    folder = request.getfixturevalue(form)
    convert(form, folder, tmp_path / "out.json")
    own = read_own_set(
        dict.fromkeys(("train", "val"), tmp_path / "out.json"), dict.fromkeys(("train", "val"), folder), None, None
    )
    assert own.classes.base == ["cat", "dog"]
    assert [fault for fault in own.faults if "are in train and in val" not in fault] == []


@pytest.mark.parametrize(
    ("form", "spoil", "split", "message"),
    [
        ("voc", lambda r: None, "test", r"test\.txt: the list does not exist"),
        ("voc", lambda r: (r / "JPEGImages/000001.jpg").unlink(), "val", "not there: 'val.txt, line 1'"),
        ("voc", lambda r: (r / "Annotations").rename(r / "xml"), None, "Annotations: the folder does not exist"),
        ("voc", lambda r: [f.unlink() for f in (r / "Annotations").iterdir()], None, "no box is left, of 3 pictures"),
        ("voc", lambda r: [f.write_text("<a>") for f in (r / "Annotations").iterdir()], None, "2 x not XML: '000001"),
        ("yolo", lambda r: (r / "data.yaml").write_text("train: train/images"), None, "key 'names': there are no"),
        ("yolo", lambda r: (r / "data.yaml").write_text("train: a\nnames: [{x: 1}]"), None, "key 'names': there are"),
        ("yolo", lambda r: (r / "data.yaml").write_text("train: a\nnames: {cat: 0}"), None, "no index .*: 'cat'"),
        (
            "yolo",
            lambda r: (r / "data.yaml").write_text("train: a\nnames: {0: a, 0: b}"),
            None,
            "not YAML .a key is there twice .* line 2",
        ),
        ("yolo", lambda r: (r / "data.yaml").write_text('names: ["\\ud83d"]\ntrain: a'), None, "no name of a class"),
        ("yolo", lambda r: (r / "data.yaml").write_text("[" * 999), None, r"data\.yaml: not YAML"),
        ("yolo", lambda r: (r / "data.yaml").write_text("names: [a\nval: b"), None, r"data\.yaml: not YAML .*line 2"),
        ("yolo", lambda r: (r / "data.yaml").write_text("- a"), None, "no keys and values"),
        ("yolo", lambda r: (r / "data.yaml").unlink(), None, r"data\.yaml: the file does not exist"),
        ("yolo", lambda r: (r / "data.yaml").write_text(f"{BOMB}nc: *i\nnames: *i"), None, "key 'names': there are no"),
        ("yolo", lambda r: (r / "data.yaml").write_text(f"names: [a]\n{BOMB}train: *i"), None, "key 'train': there"),
        ("yolo", lambda r: (r / "data.yaml").write_text("names: /etc/hostname\ntrain: a"), None, "key 'names': there"),
        ("yolo", lambda r: (r / "data.yaml").write_text("train: /dev/zero\nnames: [a]"), None, "zero: the folder"),
        (
            "yolo",
            lambda r: (r / "data.yaml").write_text("train: data.yaml\nnames: [a]"),
            None,
            "line 1: the picture of",
        ),
        ("yolo", lambda r: None, "test", r"data\.yaml, key 'test': there is no such split.*name one of train, val"),
        ("yolo", lambda r: None, "val", r"valid/images: the folder does not exist.*mend 'val' of data\.yaml"),
        ("yolo", lambda r: [f.unlink() for f in (r / "train/images").iterdir()], None, "key 'train': there is no pict"),
        ("yolo", lambda r: [f.unlink() for f in (r / "train/labels").iterdir()], None, "no box is left, of 3 pictures"),
    ],
)
def test_what_leaves_nothing_is_named_and_nothing_is_written(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    form: str,
    spoil: Callable[[Path], object],
    split: str | None,
    message: str,
) -> None:
    folder = request.getfixturevalue(form)
    spoil(folder)
    with pytest.raises(InputError, match=message):
        convert(form, folder, tmp_path / "out.json", split)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("inner", "box"),
    [
        (SOUND, [10, 10, 10, 10]),
        (SIZE + OBJECT.format(" hot\n dog ", "11.0", " 1.1e1", "20.", 20), [10, 10, 10, 10]),
        (OBJECT.format("dog", 0, 0, 100, 51), [0, 0, 100, 50]),
        ("<size><width>0</width><height>0</height></size><segmented>1</segmented>" + SOUND, [10, 10, 10, 10]),
        ("<size><width/></size>" + SOUND, [10, 10, 10, 10]),
        (
            "<object><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><name>dog</name><pose>Left</pose>"
            "<bndbox><ymin>2</ymin><xmin>3</xmin><xmax>12</xmax><ymax>11</ymax></bndbox></object>",
            [2, 1, 10, 10],
        ),
        (
            "<object><name>dog</name><polygon><x1>1</x1><y1>2</y1><x2>11</x2><y2>2</y2><x3>1</x3><y3>12</y3></polygon>"
            "</object>",
            [1, 2, 10, 10],
        ),
    ],
)
def test_objects_of_voc_that_tools_write_are_understood(voc: Path, inner: str, box: list[float]) -> None:
    _write(voc / "Annotations/000003.xml", _annotation(inner))
    content, rejects, _ = _converted("voc", voc)
    assert [a["bbox"] for a in content["annotations"] if a["image_id"] == 3] == [box] and not rejects
    assert {c["name"] for c in content["categories"]} <= {"cat", "dog", "hot dog"}


def test_polygons_become_masks(voc: Path, yolo: Path) -> None:
    points = "<pt><x>1</x><y>2</y></pt><pt><x>11</x><y>2</y></pt><pt><x>1</x><y>12</y></pt>"
    _write(voc / "Annotations/000003.xml", _annotation(f"<object><name>a</name><polygon>{points}</polygon></object>"))
    _write(yolo / "train/labels/c.txt", "0 .01 .04 .11 .04 .01 .24\n")
    for form, folder in (("voc", voc), ("yolo", yolo)):
        (mask,) = [a for a in _converted(form, folder)[0]["annotations"] if a["image_id"] == 3]
        assert (mask["segmentation"], mask["bbox"], mask["area"]) == ([[1, 2, 11, 2, 1, 12]], [1, 2, 10, 10], 50)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("<object><name>dog</name><polygon/></object>", "the object has no bndbox (it has polygon)"),
        ("<object><name>dog</name><robndbox/></object>", "the object has no bndbox (it has robndbox)"),
        ("<object><bndbox/></object>", "the object has no class ('')"),
        (OBJECT.format("__background__", 1, 1, 2, 2), "the object has no class ('__background__')"),
        (OBJECT.format("dog", "", 1, 2, 2), "a corner is missing or no number (a value is no number (''))"),
        (OBJECT.format("dog", "1_0", 1, 2, 2), "a corner is missing or no number (a value is no number ('1_0'))"),
        (OBJECT.format("dog", "nan", 1, 2, 2), "a corner is missing or no number (a value is no number ('nan'))"),
        (OBJECT.format("dog", 20, 1, 10, 2), "the corners are the wrong way round (20, 1, 10, 2)"),
        (OBJECT.format("dog", 20, 1, 103, 2), "the box leaves its picture (19, 0, 103, 2)"),
        (SOUND, "the box is there twice"),
        (OBJECT.format("dog", 101, 1, 101, 2), "the box is empty"),
    ],
)
def test_an_odd_object_of_voc_is_set_aside_and_the_others_stay(voc: Path, odd: str, why: str) -> None:
    _write(voc / "Annotations/000003.xml", _annotation(SIZE, SOUND, odd))
    content, rejects, _ = _converted("voc", voc)
    assert len(content["annotations"]) == 4
    assert [(Path(line["file"]).name, line["record"], line["reason"]) for line in rejects] == [
        ("000003.xml", "object 2", why)
    ]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_annotation("<object><name>salt & pepper</name></object>"), "not XML"),
        ("", "not XML"),
        (b"\0\1\2", "not text"),
        (LAUGHS, "it declares a document type or entities"),
        (OUTSIDE.encode("utf-16"), "it declares a document type or entities"),
        ('<project xmlns="http://maven.apache.org/POM/4.0.0"/>', "no annotation of Pascal VOC"),
        (_annotation("<size><width>50</width><height>100</height></size>", SOUND), "its label file is of another size"),
        (_annotation("<object/>"), "the object has no class"),
        ("<a>" * 100_000, "not XML"),
    ],
)
def test_a_bad_file_of_voc_is_set_aside_with_its_picture(voc: Path, content: str | bytes, why: str) -> None:
    _write(voc / "Annotations/000003.xml", content)
    found, rejects, said = _converted("voc", voc)
    assert [Path(name).stem for name in _names(found)] == ["000001", "000002"] and len(found["annotations"]) == 3
    assert any(line["reason"].startswith(why) and "000003" in line["file"] for line in rejects)
    assert why in said and "000003" in said


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("UTF-8", "utf-8"), ("utf-16", "utf-16"), ("latin-1", "latin-1"), ("UTF-8", "cp1252"), ("rot13", "utf-8-sig")],
)
def test_encodings_of_voc(voc: Path, declared: str, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>' + _annotation(OBJECT.format("Möwe", 1, 1, 9, 9))
    _write(voc / "Annotations/000003.xml", text.encode(encoding))
    content, _, said = _converted("voc", voc)
    assert "Möwe" in {category["name"] for category in content["categories"]}
    assert ("cp1252" in said) == (encoding == "cp1252")


@pytest.mark.parametrize(
    "filename",
    ["", "000003", "000003.png", "C:\\pictures\\000003.jpg", "../../000003.jpg", "000001.jpg", "000003.jpg"],
)
def test_an_annotation_of_voc_belongs_to_the_picture_of_its_name(voc: Path, filename: str) -> None:
    _write(voc / "Annotations/000003.xml", _annotation(f"<filename>{filename}</filename>", SOUND))
    content, rejects, _ = _converted("voc", voc)
    assert [a["image_id"] for a in content["annotations"]] == [1, 2, 2, 3] and not rejects


@pytest.mark.parametrize("filename", ["000003", "000003.png", "C:\\pictures\\000003.jpg", "../../000003.jpg"])
def test_else_to_the_one_that_it_names(voc: Path, filename: str) -> None:
    _write(voc / "Annotations/other.xml", _annotation(f"<filename>{filename}</filename>", SOUND))
    content, rejects, _ = _converted("voc", voc)
    assert [a["image_id"] for a in content["annotations"]] == [1, 2, 2, 3] and not rejects


def test_of_two_files_of_one_picture_of_voc_the_one_of_its_name_stays(voc: Path) -> None:
    _write(voc / "Annotations/000000.xml", _annotation("<filename>000001.jpg</filename>", SOUND))
    content, rejects, _ = _converted("voc", voc)
    assert len(content["annotations"]) == 3
    assert [line["reason"] for line in rejects] == ["another file is of the same picture"]


def test_voc_of_folders_in_folders_finds_each_picture_of_one_name(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for i, place in enumerate(("cam 1", "cam 2")):
        _picture(root / f"images/{place}/0.JPEG")
        _write(root / f"annotations/{place}/0.xml", _annotation(OBJECT.format("dog", 1 + i, 1, 9, 9)))
    _write(root / "annotations/0.xml", _annotation(SOUND))
    content, rejects, _ = _converted("voc", root)
    assert [a["bbox"][0] for a in content["annotations"]] == [0, 1]
    assert [line["reason"] for line in rejects] == ["another file is of the same picture"]
    (root / "annotations/cam 2/0.xml").unlink()
    content, rejects, _ = _converted("voc", root)
    assert [a["bbox"][0] for a in content["annotations"]] == [0]
    assert [line["reason"].split(" (")[0] for line in rejects] == [
        "several pictures fit the file",
        "left out with what its label file says, for without boxes it would pass for background",
    ]


def test_voc_in_one_folder_and_through_a_link(tmp_path: Path) -> None:
    _picture(tmp_path / "disk/a.jpg")
    _write(tmp_path / "disk/a.xml", _annotation(SOUND))
    (tmp_path / "disk/again").symlink_to(tmp_path / "disk")
    assert _names(_converted("voc", tmp_path / "disk")[0]) == ["a.jpg"]
    _write(tmp_path / "set/Annotations/a.xml", _annotation(SOUND))
    (tmp_path / "set/JPEGImages").symlink_to(tmp_path / "disk")
    assert _names(_converted("voc", tmp_path / "set")[0]) == ["JPEGImages/a.jpg"]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("[on, off, yes, no]", {1: "on", 2: "off", 3: "yes", 4: "no"}),
        ("[null, ~, 007, 1.0]", {1: "null", 2: "~", 3: "007", 4: "1.0"}),
        ("\n  - cat\n  - ' traffic  light '", {1: "cat", 2: "traffic light"}),
        ("\n  0: cat\n  '1': dog", {1: "cat", 2: "dog"}),
        ("\n  3: dog\n  1: cat", {2: "cat", 4: "dog"}),
        ("[cat, cat, dog]", {1: "cat", 3: "dog"}),
        ("[cat, '', dog]", {1: "cat", 3: "dog"}),
        ("classes.names", {1: "cat", 2: "dog"}),
        ("[Möwe, 猫]", {1: "Möwe", 2: "猫"}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_names_of_yolo_stay_as_they_are_written(yolo: Path, names: str, wanted: dict[int, str], encoding: str) -> None:
    _write(yolo / "train/labels/c.txt", f"{max(wanted) - 1} 0.5 0.5 0.2 0.4\n")
    _write(yolo / "classes.names", "cat\r\ndog\r\n")
    _write(yolo / "data.yaml", f"train: train/images\r\nnames: {names}\r\n".encode(encoding))
    content = _converted("yolo", yolo)[0]
    assert {category["id"]: category["name"] for category in content["categories"]} == wanted


@pytest.mark.parametrize(
    "text",
    [
        "train: train/images",
        "train: ./train/images/",
        "train: ../train/images",
        "train: train\\images",
        "train: 'C:\\data\\toys\\train\\images'",
        "train: /content/toys/train/images",
        "train: [train/images]",
        "train: [train/images, train/../train/images]",
        "train: list.txt",
        "train: [data/list.txt]",
        "path: .\ntrain: train/images",
        "path: train\ntrain: images",
        "path: /nowhere/toys\ntrain: train/images",
        "path: {folder}\ntrain: train/images",
        "path: {folder}/train\ntrain: [images]",
        "train: '{folder}/train/images'",
    ],
)
@pytest.mark.parametrize("start", ["train/images/", "./train/images/", "train\\images\\", "data/train/images/", "{}/"])
def test_splits_of_yolo_are_found_however_they_are_named(yolo: Path, text: str, start: str) -> None:
    (yolo.parent / "train/images").mkdir(parents=True)  # of somebody else
    start = start.replace("{}", str(yolo / "train/images"))
    lines = "".join(f"{start}{name}.jpg\r\n" for name in "abc")
    for place in ("", "data/"):
        _write(yolo / place / "list.txt", lines)
    _write(yolo / "data.yaml", f"names: [cat, dog]\n{text.replace('{folder}', str(yolo))}\n")
    content, rejects, said = _converted("yolo", yolo)
    assert _names(content) == [f"train/images/{name}.jpg" for name in "abc"] and not rejects
    assert len(content["annotations"]) == 3 and f"start from {yolo}:" in said


def test_a_path_elsewhere_is_the_folder_to_give(yolo: Path, tmp_path: Path) -> None:
    _write(tmp_path / "set/data.yaml", "path: ../toys\ntrain: train/images\nnames: [cat, dog]\n")
    content, _, said = _converted("yolo", tmp_path / "set")
    assert _names(content)[0] == "train/images/a.jpg" and f"start from {yolo}:" in said
    _picture(tmp_path / "more/images/d.jpg")
    _write(tmp_path / "set/data.yaml", "train: [../toys/train/images, ../more/images]\nnames: [cat, dog]\n")
    content, _, said = _converted("yolo", tmp_path / "set/data.yaml")
    assert _names(content) == ["more/images/d.jpg", *(f"toys/train/images/{name}.jpg" for name in "abc")]
    assert f"start from {tmp_path}:" in said


def test_a_list_s_missing_pictures_and_twins_are_counted(yolo: Path) -> None:
    _write(yolo / "list.txt", "train/images/a.jpg\nnowhere.jpg\n\ntrain/images/a.jpg\n/etc/passwd\ntrain/images\n")
    _write(yolo / "data.yaml", "train: list.txt\nnames: [cat, dog]\n")
    content, rejects, _ = _converted("yolo", yolo)
    assert _names(content) == ["train/images/a.jpg"]
    assert [line["record"] for line in rejects] == ["line 2", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize(
    "files",
    [
        {"obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n"},
        {"classes.txt": "cat\ndog\n", "notes.json": "{}"},
        {"dataset.yml": "train: obj\nnames: obj.names\n"},
    ],
)
def test_darknet_s_and_labelling_tools_folders(tmp_path: Path, files: dict[str, str]) -> None:
    root = tmp_path / "set"
    _picture(root / "obj/a.jpg")
    _write(root / "obj/a.txt", "1 0.5 0.5 0.2 0.4\n")
    _write(root / "obj/README.txt", "Exported from a tool\n")
    for name, text in {"train.txt": "data/obj/a.jpg\n", "obj.names": "cat\ndog\n", **files}.items():
        _write(root / name, text)
    content, rejects, _ = _converted("yolo", root)
    assert _names(content) == ["obj/a.jpg"] and content["annotations"][0]["category_id"] == 2 and not rejects


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.5 0.5 0.2 0.4", [40, 15, 20, 20]),
        ("0.0\t.5  5e-1 0.2\t0.4 ", [40, 15, 20, 20]),
        ("0,0.5,0.5,0.2,0.4", [40, 15, 20, 20]),
        ("0, 0.5, 0.5, 0.2, 0.4", [40, 15, 20, 20]),
        ("0;0.5;0.5;0.2;0.4", [40, 15, 20, 20]),
        ("0 0,5 0,5 0,2 0,4", [40, 15, 20, 20]),
        ("0 0.5 0.5 0.2 0.4 0.93", [40, 15, 20, 20]),
        ("0 0.95 0.5 0.2 1", [85, 0, 15, 50]),
        ("0 0.5 0.5 1.001 1.001", [0, 0, 100, 50]),
        ("0 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7", [40, 15, 20, 20]),
        ("0 0.5 0.2 0.6 0.5 0.5 0.8 0.4 0.5", [40, 10, 20, 30]),
        ("0 -0.005 0 0.1 0 0.1 0.2", [0, 0, 10, 10]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_of_yolo_that_tools_write_are_understood(yolo: Path, line: str, box: list[float], encoding: str) -> None:
    _write(yolo / "train/labels/c.txt", f"\r\n{line}\r\n".encode(encoding))
    content, rejects, said = _converted("yolo", yolo)
    assert [a["bbox"] for a in content["annotations"] if a["image_id"] == 3] == [pytest.approx(box)] and not rejects
    assert ("1 x lines with a score" in said) == line.endswith("93") and ("1 x boxes cut" in said) == ("0.95" in line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 0.5 nan 0.2 0.4", "a value is no number ('nan')"),
        ("0 0.5 1e999 0.2 0.4", "a value is no number ('1e999')"),
        ("cat 0.5 0.5 0.2 0.4", "a value is no number ('cat')"),
        ("# 0.5 0.5 0.2 0.4", "a value is no number ('#')"),
        ("0 0.5 0.2", "neither box nor polygon nor pose (3 numbers)"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "neither box nor polygon nor pose (8 numbers)"),
        ("7 0.5 0.5 0.2 0.4", "there is no class of this index (7)"),
        ("0.5 0.5 0.5 0.2 0.4", "there is no class of this index (0.5)"),
        ("-1 0.5 0.5 0.2 0.4", "there is no class of this index (-1)"),
        ("0 50 25 20 20", "not in parts of the picture, 0 to 1 (50)"),
        ("0 0.5 0.5 1.2 0.4", "not in parts of the picture, 0 to 1 (1.2)"),
        ("0 0.5 0.5 0 0.4", "the box is empty"),
        ("0 0.5 0.5 -0.001 0.4", "the box is empty"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "the polygon is empty"),
        ("1 0.5 0.5 0.2 0.4", "the box is there twice"),
    ],
)
def test_an_odd_line_of_yolo_is_set_aside_and_the_others_stay(yolo: Path, line: str, why: str) -> None:
    _write(yolo / "train/labels/c.txt", f"1 0.5 0.5 0.2 0.4\n\n{line}\n")
    content, rejects, _ = _converted("yolo", yolo)
    assert len(content["annotations"]) == 4
    assert [(Path(entry["file"]).name, entry["record"], entry["reason"]) for entry in rejects] == [
        ("c.txt", "line 3", why)
    ]


@pytest.mark.parametrize("content", [b"\0\1\2\3", "1 2 3\n", "7 0.5 0.5 0.2 0.4\n"])
def test_a_bad_label_file_of_yolo_is_set_aside_with_its_picture(yolo: Path, content: str | bytes) -> None:
    _write(yolo / "train/labels/c.txt", content)
    found, rejects, _ = _converted("yolo", yolo)
    assert _names(found) == ["train/images/a.jpg", "train/images/b.jpg"] and len(found["annotations"]) == 3
    assert [Path(line["file"]).name for line in rejects] == ["c.txt", "c.jpg"]


def test_poses_keep_their_boxes(yolo: Path) -> None:
    for name in "ab":
        _write(yolo / f"train/labels/{name}.txt", "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0 0 0\n0 .5 .5 .5\n")
    _write(yolo / "data.yaml", "train: train/images\nnames: [person]\nkpt_shape: [2, 3]\n")
    content, rejects, _ = _converted("yolo", yolo)
    assert [a["bbox"] for a in content["annotations"]] == [[40, 15, 20, 20]] * 2 and len(rejects) == 2
    assert not any("segmentation" in a for a in content["annotations"])


def test_pictures_of_yolo_in_subfolders_and_of_any_suffix_are_found(yolo: Path) -> None:
    names = {"cam 1/d.JPG": "JPEG", "cam 1/e.jfif": "JPEG", "f.tif": "TIFF", "g.webp": "WEBP", "h.Png": "PNG"}
    for name, kind in names.items():
        _picture(yolo / "train/images" / name, format=kind)
        _write((yolo / "train/labels" / name).with_suffix(".txt"), "0 0.5 0.5 0.2 0.4\n")
    content, rejects, _ = _converted("yolo", yolo)
    assert _names(content) == sorted(f"train/images/{name}" for name in ["a.jpg", "b.jpg", "c.jpg", *names])
    assert len(content["annotations"]) == 3 + len(names) and not rejects


def test_labels_lie_beside_the_folder_that_a_link_names(yolo: Path, tmp_path: Path) -> None:
    for place in ("one", "one/again"):
        (tmp_path / "set" / place).mkdir(parents=True)
    (tmp_path / "set/one/toys").symlink_to(yolo / "train/images")
    (tmp_path / "set/one/again/round").symlink_to(tmp_path / "set")
    _write(tmp_path / "set/data.yaml", "train: one\nnames: [cat, dog]\n")
    content, rejects, _ = _converted("yolo", tmp_path / "set")
    assert _names(content) == [f"one/toys/{name}.jpg" for name in "abc"] and not rejects
    assert len(content["annotations"]) == 3


def test_pictures_that_share_a_label_file_both_have_its_boxes(yolo: Path) -> None:
    _picture(yolo / "train/images/a.png", format="PNG")
    _write(yolo / "train/labels/a.txt", "0 0.5 0.5 0.2 0.4\nx\n")
    content, rejects, said = _converted("yolo", yolo)
    assert len(content["annotations"]) == 4 and len(rejects) == 1
    assert "to know: 1 x pictures that share a label file with another: 'a.png'" in said and "  1 x a value" in said


def test_what_lies_about_in_a_yolo_folder_is_told_or_set_aside(yolo: Path) -> None:
    for name in ("classes.txt", "notes.json", "train.cache", ".DS_Store", "._a.txt"):
        _write(yolo / "train/labels" / name, "cat\ndog\n")
    _write(yolo / "data.yaml", "train: train/images\nnc: 7\nnames: ['cat', 'dog']\n")
    _write(yolo / "train/labels/lost.txt", "0 0.5 0.5 0.2 0.4\n")
    _write(yolo / "train/labels/empty.txt", "")
    _write(yolo / "train/labels/c.txt", "\r\n")
    _write(yolo / "train/images/d.jpg", b"\xff\xd8\xff")
    _write(yolo / "train/labels/d.txt", "0 0.5 0.5 0.2 0.4\n")
    content, rejects, said = _converted("yolo", yolo)
    assert _names(content) == [f"train/images/{name}.jpg" for name in "abc"]
    assert [Path(line["file"]).name for line in rejects] == ["empty.txt", "lost.txt", "d.jpg"]
    assert "to know: data.yaml counts 7 classes ('nc') and names 2" in said
    assert "5 x other files, not read" in said and "1 x boxes set aside with their picture: 'd.jpg'" in said


def test_boxes_of_a_turned_picture_are_those_of_the_picture_as_it_is_seen(yolo: Path, voc: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for path in (yolo / "train/images/a.jpg", voc / "JPEGImages/000001.jpg"):
        _picture(path, (50, 100), exif=turned)
    content = _converted("yolo", yolo)[0]
    assert content["images"][0]["width"] == 100 and content["annotations"][0]["bbox"] == [40, 15, 20, 20]
    assert not _converted("voc", voc)[1]
    _picture(voc / "JPEGImages/000001.jpg", exif=turned)
    (line,) = _converted("voc", voc)[1]
    assert line["reason"] == "its label file is of another size (100 x 50, not 50 x 100)" and "EXIF" in line["mend"]


def test_names_that_no_annotation_file_can_hold_are_set_aside(yolo: Path) -> None:
    for name in (b"bad\xff.jpg", b"back\\slash.jpg"):
        (yolo / "train/images/a.jpg").rename(Path(str(yolo / "train/images"), name.decode("utf-8", "surrogateescape")))
        _picture(yolo / "train/images/a.jpg")
    content, rejects, said = _converted("yolo", yolo)
    assert len(content["images"]) == 3 and len(rejects) == 2
    said.encode()


RECORDS = {
    # A line or an object, and whether it is good; good ones differ, so that none is a twin.
    "yolo": {"{i} 0.5 0.5 0.{n}1 0.4": True, "0 9 9 9 9": False, "x": False, "99 0.5 0.5 0.1 0.1": False},
    "voc": {
        OBJECT.format("c{i}", "1{n}", 1, 90, 50): True,
        OBJECT.format("dog", 9, 1, 3, 2): False,
        "<object><name>dog</name></object>": False,
        OBJECT.format("dog", 1, 1, 999, 2): False,
    },
}
PICTURE = st.tuples(st.sampled_from(["good", "bad", "absent"]), st.lists(st.integers(0, 3), max_size=5) | st.none())


def _mixture(form: str, folder: Path, files: list[tuple[str, list[int] | None]]) -> tuple[int, int]:
    """Write a set; return its good records and its pictures. No list of records: a label file that is none."""
    good = 0
    images, labels = ("JPEGImages", "Annotations") if form == "voc" else ("images", "labels")
    for n, (state, kinds) in enumerate(files):
        if state != "absent":
            _picture(folder / f"{images}/{n}.jpg")
        if state == "bad":
            _write(folder / f"{images}/{n}.jpg", b"no picture")
        lines = [list(RECORDS[form])[kind].format(i=i, n=n) for i, kind in enumerate(kinds or [])]
        text = _annotation(*lines) if form == "voc" else "".join(f"{line}\n" for line in lines)
        _write(folder / f"{labels}/{n}.{'xml' if form == 'voc' else 'txt'}", b"\0\1\2" if kinds is None else text)
        good += sum(state == "good" and kind == 0 for kind in kinds or [])
    _write(folder / "data.yaml", "train: images\nnames: [a, b, c, d, e]\n")
    return good, sum(state != "absent" for state, _ in files)


@pytest.mark.parametrize("form", ["voc", "yolo"])
@settings(max_examples=40)
@given(files=st.lists(PICTURE, min_size=1, max_size=6))
def test_every_good_record_is_in_the_file_and_every_bad_one_in_the_rejects(
    tmp_path_factory: pytest.TempPathFactory, form: str, files: list[tuple[str, list[int] | None]]
) -> None:
    folder = tmp_path_factory.mktemp("mixture") / "set"
    good, pictures = _mixture(form, folder, files)
    if not good:
        with pytest.raises(InputError, match="no box is left|no picture in it|folder does not exist"):
            convert(form, folder, folder.parent / "out.json")
        return
    content, rejects, said = _converted(form, folder)
    assert len(content["annotations"]) == good
    aside = {Path(line["file"]).name for line in rejects}
    assert len(content["images"]) + sum(name.endswith(".jpg") for name in aside) == pictures
    for n, (state, kinds) in enumerate(files):
        label = f"{n}.{'xml' if form == 'voc' else 'txt'}"
        assert f"{n}.jpg" in aside or state == "absent" or (kinds is not None and (not kinds or 0 in kinds))
        odd = sum(Path(line["file"]).name == label and line["record"] is not None for line in rejects)
        assert odd == sum(kind != 0 for kind in kinds) if state == "good" and kinds is not None else True
        assert label in aside or state != "absent" or "other files, not read" in said
    assert said.startswith(f"{folder.parent / 'out.json'}: {len(content['images'])} images, {good} annotations")
