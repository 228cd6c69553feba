"""Cityscapes and Foggy Cityscapes become COCO-style files with the boxes of what is seen, by hand; nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.workspace.cityscapes import CLASSES, _masks
from regionclip.workspace.convert import convert

FORMS = ("cityscapes", "foggy_cityscapes")
BETAS = ("0.005", "0.01", "0.02")


def _rectangle(label: str, left: int, top: int, right: int, bottom: int) -> dict:
    """An object whose outermost pixels are those four; Cityscapes' tools draw the outline with the inside."""
    return {"label": label, "polygon": [[left, top], [right, top], [right, bottom], [left, bottom]]}


def _labels(root: Path, split: str, name: str, content: object) -> Path:
    path = root / f"gtFine/{split}/{name.split('_')[0]}/{name}_gtFine_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = {"imgHeight": 20, "imgWidth": 40, "objects": content}
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _pictures(root: Path, split: str, name: str) -> list[Path]:
    kinds = [("leftImg8bit", ""), *(("leftImg8bit_foggy", f"_beta_{beta}") for beta in BETAS)]
    paths = [root / kind / split / name.split("_")[0] / f"{name}_{kind}{fog}.png" for kind, fog in kinds]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(path)
    return paths


ULM, AACHEN, EMPTY, VAL = "ulm_000000_000019", "aachen_000000_000019", "ulm_000001_000019", "munster_000000_000019"
SOUND = _rectangle("car", 10, 5, 19, 9)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two labelled pictures and one of an empty street in train, one picture in val, in clear air and in fog."""
    root = tmp_path / "cityscapes"
    for split, name in (("train", ULM), ("train", AACHEN), ("train", EMPTY), ("val", VAL)):
        _pictures(root, split, name)
    road = _rectangle("road", 0, 10, 39, 19)
    _labels(root, "train", ULM, [road, _rectangle("sky", 0, 0, 39, 4), _rectangle("person", 5, 5, 14, 9), SOUND])
    car = [_rectangle("car", 0, 0, 9, 4), _rectangle("license plate", 3, 2, 5, 3), _rectangle("pole", 7, 0, 7, 19)]
    _labels(root, "train", AACHEN, [road, *car, _rectangle("bicyclegroup", 20, 10, 49, 24)])
    _labels(root, "train", EMPTY, [road])
    _labels(root, "val", VAL, [_rectangle("train", 1, 2, 3, 4)])
    for image in ("color", "instanceIds", "labelIds"):
        (root / f"gtFine/train/ulm/{ULM}_gtFine_{image}.png").touch()
    return root


def _converted(form: str, root: Path, split: str | None = None) -> tuple[dict, list[dict], str]:
    out = root.parent / "out.json"
    said = convert(form, root, out, split)
    rejects = root.parent / "out_rejected.jsonl"
    lines = rejects.read_text().splitlines() if rejects.exists() else []
    return read_json(out), [json.loads(line) for line in lines], said


@pytest.mark.parametrize(("form", "ending"), zip(FORMS, ("", "_foggy_beta_0.02"), strict=True))
def test_polygons_become_boxes_of_what_is_seen_by_hand(root: Path, form: str, ending: str) -> None:
    """The car hides half of the person, the pole a column of the other car, the plate nothing; a group is a crowd."""
    content, rejects, said = _converted(form, root)
    kind = form.replace("foggy_cityscapes", "leftImg8bit_foggy").replace("cityscapes", "leftImg8bit")
    assert [image["file_name"] for image in content["images"]] == [
        f"{kind}/train/{name.split('_')[0]}/{name}_leftImg8bit{ending}.png" for name in (AACHEN, ULM, EMPTY)
    ]
    assert {category["name"]: category["id"] for category in content["categories"]} == CLASSES and not rejects
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [
        (a["image_id"], names[a["category_id"]], a["bbox"], a["area"], a["iscrowd"]) for a in content["annotations"]
    ] == [
        (1, "car", [0, 0, 10, 5], 45, 0),
        (1, "bicycle", [20, 10, 20, 10], 200, 1),
        (2, "person", [5, 5, 5, 5], 25, 0),
        (2, "car", [10, 5, 10, 5], 50, 0),
    ]
    assert coco_mask.decode(content["annotations"][0]["segmentation"])[:5, :10].tolist() == [[1] * 7 + [0, 1, 1]] * 5
    assert "to know: objects of other labels, not kept: 3 x road, 1 x license plate, 1 x pole, 1 x sky" in said
    assert ("6 x other files, not read" in said) == (form == "foggy_cityscapes")


def test_val_is_a_split_and_the_classes_stay(root: Path) -> None:
    content, _, _ = _converted("cityscapes", root, "val")
    assert [(a["category_id"], a["bbox"]) for a in content["annotations"]] == [(31, [1, 2, 3, 3])]
    assert len(content["categories"]) == 8


@pytest.mark.parametrize("form", FORMS)
def test_the_result_is_one_s_own_data_with_masks_and_the_same_again(root: Path, tmp_path: Path, form: str) -> None:
    from regionclip.data.annotations.annotation_files import mask_problem
    from regionclip.workspace.own_set import read_own_set

    files = {split: tmp_path / f"{split}.json" for split in ("train", "val")}
    for split, file in files.items():
        convert(form, root, file, split)
    first = files["train"].read_bytes()
    convert(form, root, files["train"])
    assert files["train"].read_bytes() == first
    assert all(mask_problem(a["segmentation"], (20, 40)) is None for a in json.loads(first)["annotations"])
    own = read_own_set(files, dict.fromkeys(files, root), None, None)
    assert not own.faults and any("1 boxes are crowds" in note for note in own.notes)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"label": "car", "polygon": [[1, 1], [5, 5]]}, "the polygon has fewer than three points"),
        ({"label": "car"}, "the polygon has fewer than three points"),
        ({"label": "car", "polygon": [[1, 1], [5, 5], [7]]}, "a point of the polygon is not two numbers near the"),
        ({"label": "car", "polygon": [[1, 1], [5, 5], ["7", 7]]}, "a point of the polygon is not two numbers near"),
        ({"label": "car", "polygon": [[1, 1], [5, 5], [float("nan"), 7]]}, "a point of the polygon is not two"),
        ({"label": "car", "polygon": [[1, 1], [5, 5], [10**400, 7]]}, "a point of the polygon is not two numbers"),
        ({"label": "car", "polygon": [[1, 1], [5, 5], [True, 7]]}, "a point of the polygon is not two numbers"),
        ({"polygon": [[1, 1], [5, 5], [7, 1]]}, "the object has no label"),
        ({"label": ["car"], "polygon": [[1, 1], [5, 5], [7, 1]]}, "the object has no label"),
        ("car", "the object has no label"),
    ],
)
def test_an_odd_object_is_set_aside_and_the_others_stay(root: Path, odd: object, why: str) -> None:
    _labels(root, "train", EMPTY, [SOUND, odd])
    content, rejects, _ = _converted("cityscapes", root)
    assert [a["bbox"] for a in content["annotations"] if a["image_id"] == 3] == [[10, 5, 10, 5]]
    assert [(line["record"], line["reason"].startswith(why)) for line in rejects] == [("object 2", True)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[]", "there is no size of the picture"),
        ({"imgHeight": 20, "objects": []}, "there is no size of the picture"),
        ({"imgHeight": 20, "imgWidth": 10**9, "objects": []}, "there is no size of the picture"),
        ({"imgHeight": 20, "imgWidth": 40, "objects": {}}, "there is no list of objects"),
        ({"imgHeight": 40, "imgWidth": 20, "objects": [SOUND]}, "its label file is of another size"),
        ([{"label": "car", "polygon": []}], "the polygon has fewer than three points"),
    ],
)
def test_a_bad_file_is_set_aside_with_its_picture(root: Path, content: object, why: str) -> None:
    _labels(root, "train", EMPTY, content)
    found, rejects, said = _converted("cityscapes", root)
    assert len(found["images"]) == 2 and len(found["annotations"]) == 4 and why in said
    assert any(line["reason"].startswith(why) for line in rejects)
    assert any(line["file"].endswith(f"{EMPTY}_leftImg8bit.png") for line in rejects)


def test_pictures_and_files_without_the_other_and_objects_that_are_not_seen_are_counted(root: Path) -> None:
    (root / f"leftImg8bit/train/ulm/{ULM}_leftImg8bit.png").unlink()
    _pictures(root, "train", "ulm_000009_000019")
    (root / "leftImg8bit/train/ulm/._x_leftImg8bit.png").touch()
    (root / "gtFine/train/ulm/._x_gtFine_polygons.json").touch()
    hidden = [_rectangle("bus", 2, 2, 5, 5), _rectangle("building", 1, 1, 6, 6), _rectangle("truck", -9, 1, -2, 5)]
    _labels(root, "train", EMPTY, hidden)
    content, rejects, said = _converted("cityscapes", root)
    assert len(content["images"]) == 2 and len(content["annotations"]) == 2
    assert [(line["reason"], Path(line["file"]).name) for line in rejects] == [
        ("there is no picture of the file", f"{ULM}_gtFine_polygons.json"),
        ("there is no label file", "ulm_000009_000019_leftImg8bit.png"),
    ]
    hidden_ones = (
        "'ulm_000001_000019_gtFine_polygons.json, object 1', 'ulm_000001_000019_gtFine_polygons.json, object 3'"
    )
    assert f"to know: 2 x objects wholly hidden or outside, left out: {hidden_ones}" in said
    assert "to know: 1 x other files, not read: '._x_left" in said


@pytest.mark.parametrize(
    ("form", "spoil", "split", "message"),
    [
        ("cityscapes", lambda root: None, "test", r"gtFine/test: there are no public labels .* give --split train or"),
        ("cityscapes", lambda root: (root / "gtFine").rename(root / "gt"), None, r"gtFine/train: the folder does not"),
        (
            "foggy_cityscapes",
            lambda root: (root / "leftImg8bit_foggy").rename(root / "fog"),
            "val",
            "leftImg8bit_foggy/val: the folder does not exist.*holds gtFine and leftImg8bit_foggy",
        ),
        ("cityscapes", lambda root: _labels(root, "val", VAL, []), "val", "no box is left, of 1 pictures"),
        ("cityscapes", lambda root: _labels(root, "val", VAL, "x"), "val", "no box is left, of 0 pictures; 1 x left"),
    ],
)
def test_what_leaves_nothing_is_named_and_nothing_is_written(
    root: Path, tmp_path: Path, form: str, spoil: Callable[[Path], object], split: str | None, message: str
) -> None:
    spoil(root)
    with pytest.raises(InputError, match=message):
        convert(form, root, tmp_path / "out.json", split)
    assert not (tmp_path / "out.json").exists()


@given(arrays(np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 3)))
def test_the_masks_of_an_image_are_the_pixels_of_each_number(drawn: np.ndarray) -> None:
    masks = _masks(drawn)
    assert sorted(masks) == sorted(set(drawn.ravel().tolist()))
    for number, mask in masks.items():
        assert (coco_mask.decode(mask) == (drawn == number)).all()
