"""Tiny sets in the form of COCO and LVIS that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from regionclip.files import write_json
from regionclip.params.data import DataSet, OwnClasses, SetFiles
from regionclip.text.class_names import COCO_80

# Ids of COCO's 80 categories run to 90; these ten are not in use.
UNUSED_COCO_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
LVIS_CATEGORIES = [
    (1, "aerosol_can", "c"),
    (2, "air_conditioner", "f"),
    (3, "bow_(weapon)", "r"),
    (5, "chair", "f"),
    (7, "bat_(animal)", "r"),
]
SQUARE = [[2.0, 2.0, 12.0, 2.0, 12.0, 10.0, 2.0, 10.0]]  # polygon of the box that every annotation has
CROWD = {"counts": [0, 24, 744], "size": [24, 32]}  # uncompressed run lengths: the left column


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), (int(path.stem) % 250, 0, 0)).save(path)


def coco_content(boxes: dict[int, list[int]], crowds: dict[int, list[int]]) -> dict[str, Any]:
    """Return a file in COCO's own form: image id -> category ids of its boxes and of its crowds."""
    ids = [number for number in range(1, 91) if number not in UNUSED_COCO_IDS]
    annotations = [
        {"image_id": image, "category_id": category, "bbox": [2.0, 2.0, 10.0, 8.0], "area": 80.0, "iscrowd": crowd}
        | {"segmentation": CROWD if crowd else SQUARE}
        for crowd, group in enumerate((boxes, crowds))
        for image, categories in group.items()
        for category in categories
    ]
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": image, "file_name": f"{image:012d}.jpg", "width": 32, "height": 24, "coco_url": "http://x/y/z.jpg"}
            for image in sorted(boxes)
        ],
        "annotations": [annotation | {"id": 100 + i} for i, annotation in enumerate(annotations)],
        "categories": [
            {"supercategory": "thing", "id": number, "name": name} for number, name in zip(ids, COCO_80, strict=True)
        ],
    }


def lvis_content(boxes: dict[tuple[int, str], list[int]], negative: dict[int, list[int]]) -> dict[str, Any]:
    """Return a file in LVIS's own form: (image id, folder) -> category ids of its boxes; classes listed as absent."""
    images = [
        {
            "id": image,
            "width": 32,
            "height": 24,
            "coco_url": f"http://images.cocodataset.org/{folder}/{image:012d}.jpg",
            "neg_category_ids": negative.get(image, []),
            "not_exhaustive_category_ids": categories[-1:],
        }
        for (image, folder), categories in boxes.items()
    ]
    annotations = [
        {"image_id": image, "category_id": category, "bbox": [2.0, 2.0, 10.0, 8.0], "area": 80.0}
        | {"segmentation": SQUARE}
        for (image, _), categories in boxes.items()
        for category in categories
    ]
    return {
        "images": images,
        "annotations": [annotation | {"id": 100 + i} for i, annotation in enumerate(annotations)],
        "categories": [
            {"id": number, "name": name, "frequency": frequency, "synset": f"{name}.n.01", "image_count": 1}
            for number, name, frequency in LVIS_CATEGORIES
        ],
    }


def changed(about: DataSet, classes: str | OwnClasses | None = None, **files: str) -> DataSet:
    """Return a data set with other classes, and the protocol that fits them, or with other files."""
    update: dict[str, Any] = {"files": about.files.model_copy(update=files)}
    if classes is not None:
        update["classes"] = classes
        if about.format == "coco":
            novel = about.model_copy(update=update).has_novel
            update["protocol"] = "generalised" if novel else "closed_set"
    return DataSet.model_validate(about.model_copy(update=update).model_dump())


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """COCO and LVIS as their communities give them, below a working folder; what the params say of them.

    COCO's ids: person 1, bus 6 (novel), stop sign 13 (in neither split), cat 17 (novel), toothbrush 90.
    """
    monkeypatch.chdir(tmp_path)
    coco_train = coco_content({1: [1, 17, 13], 2: [17], 3: [], 4: [], 5: [90, 13]}, {3: [1]})
    coco_val = coco_content({11: [17, 1], 12: [13], 13: [], 14: []}, {13: [6]})
    write_json("sets/instances_train2017.json", coco_train)
    write_json("sets/instances_val2017.json", coco_val)
    names = {1: "train2017", 2: "train2017", 3: "train2017", 4: "train2017", 21: "train2017", 22: "val2017"}
    train = {(1, names[1]): [5, 3], (2, names[2]): [7], (3, names[3]): [1, 1], (4, names[4]): []}
    write_json("sets/lvis_v1_train.json", lvis_content(train, {1: [7, 2], 4: [1]}))
    val = {(21, names[21]): [7, 1], (22, names[22]): [2]}
    write_json("sets/lvis_v1_val.json", lvis_content(val, {21: [2]}))
    for image in coco_train["images"]:
        _picture(Path("sets/train2017") / image["file_name"])
    for image in coco_val["images"]:
        _picture(Path("sets/val2017") / image["file_name"])
    for number, folder in names.items():
        _picture(Path("sets") / folder / f"{number:012d}.jpg")
    coco = SetFiles(
        instances_train="sets/instances_train2017.json",
        instances_val="sets/instances_val2017.json",
        images_train="sets/train2017",
        images_val="sets/val2017",
    )
    lvis = SetFiles(
        instances_train="sets/lvis_v1_train.json",
        instances_val="sets/lvis_v1_val.json",
        images_train="sets",
        images_val="sets",
    )
    return SimpleNamespace(
        coco=DataSet(format="coco", classes="open_vocabulary", protocol="generalised", files=coco),
        lvis=DataSet(format="lvis", classes="open_vocabulary", protocol="federated", files=lvis),
    )
