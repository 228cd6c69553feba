"""LVIS's splits: counted by hand, LVIS's keys kept, no trace of rare classes in training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.artifacts import SETS
from regionclip.data.annotations.annotation_files import assert_no_novel
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.layout import detection_set, load_classes
from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.params.data import DataSet
from tests.data.conftest import changed

Content = dict[str, Any]
RARE = {3, 7}


def _write(about: DataSet, **changes: Any) -> tuple[Content, Content, dict[str, int]]:
    counts = write_detection_set(SETS, "lvis", changed(about, **changes))
    train, val = (read_json(detection_set("lvis", split).annotations) for split in ("train", "val"))
    return train, val, counts


def _edited(file: str, edit: Any) -> str:
    content = read_json(file)
    edit(content)
    write_json("sets/changed.json", content)
    return "sets/changed.json"


def test_open_vocabulary_counts_by_hand(real: SimpleNamespace) -> None:
    """Image 2 has a rare object only and image 4 none; the lists of image 1 lose the rare bow (3) and bat (7)."""
    train, val, counts = _write(real.lvis)
    assert detection_set("lvis", "train").annotations.name == "train.json"
    assert [(image["id"], image["neg_category_ids"]) for image in train["images"]] == [(1, [2]), (3, [])]
    assert [image["not_exhaustive_category_ids"] for image in train["images"]] == [[], [1]]
    assert [(a["image_id"], a["category_id"]) for a in train["annotations"]] == [(1, 5), (3, 1), (3, 1)]
    assert [c["id"] for c in train["categories"]] == [1, 2, 5]
    assert {"synset", "image_count", "frequency"} <= train["categories"][0].keys()
    assert val == read_json(real.lvis.files.instances_val)
    assert (counts["train_images_left_out"], counts["train_annotations_left_out"]) == (2, 2)
    assert (counts["val_images"], counts["val_annotations"], counts["val_categories"]) == (2, 3, 5)


def test_names_lose_parentheses_and_labels_follow_ids(real: SimpleNamespace) -> None:
    _write(real.lvis)
    classes = load_classes("lvis")
    assert classes.names == ("aerosol can", "air conditioner", "bow weapon", "chair", "bat animal")
    assert classes.ids == (1, 2, 3, 5, 7)
    assert classes.base_names == ("aerosol can", "air conditioner", "chair")
    assert classes.novel_names == ("bow weapon", "bat animal")
    assert classes.frequency["bat animal"] == "r"


def test_no_rare_class_is_in_the_training_file(real: SimpleNamespace) -> None:
    train, _, _ = _write(real.lvis)
    named = [a["category_id"] for a in train["annotations"]] + [c["id"] for c in train["categories"]]
    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    named += [identity for image in train["images"] for key in lists for identity in image[key]]
    assert not RARE.intersection(named)
    assert assert_no_novel(detection_set("lvis", "train").annotations, "data/sets/lvis/classes.json") == 3


def test_supervised_takes_the_rare_classes_as_base(real: SimpleNamespace) -> None:
    train, _, _ = _write(real.lvis, classes="supervised")
    assert [image["id"] for image in train["images"]] == [1, 2, 3]
    assert (len(train["annotations"]), len(train["categories"])) == (5, 5)
    assert load_classes("lvis").novel_names == () and load_classes("lvis").frequency["bow weapon"] == "r"


def test_a_training_file_without_rare_boxes_gives_the_same(real: SimpleNamespace) -> None:
    """Detic's, ovdet's and CLIPSelf's files list all categories; some name the pictures' files too."""
    wanted = _write(real.lvis)[:2]

    def drop(content: Content) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] not in RARE]
        for image in content["images"]:
            image["file_name"] = f"{image['id']:012d}.jpg"

    assert _write(real.lvis, instances_train=_edited(real.lvis.files.instances_train, drop))[:2] == wanted


def _no_rare(content: Content) -> None:
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] not in RARE]


def _no_mask(content: Content) -> None:
    content["annotations"][1]["segmentation"] = []


@pytest.mark.parametrize(
    ("split", "classes", "edit", "message"),
    [
        ("val", "open_vocabulary", _no_rare, r"no box of any rare class \('bow_\(weapon\)', 'bat_\(animal\)'\)"),
        ("train", "supervised", _no_rare, r"no box of any rare class"),
        ("train", "open_vocabulary", _no_mask, r"annotation 101, key 'segmentation': there is no mask"),
        (
            "train",
            "open_vocabulary",
            lambda c: c["categories"][0].update(id=9),
            r"key 'category_id': there is no such category \(1\)",
        ),
        ("train", "open_vocabulary", lambda c: c["categories"][1].update(id=9), r"'air_conditioner': not the class"),
        ("train", "open_vocabulary", lambda c: c["categories"][1].update(frequency="r"), r"'air_conditioner': not the"),
        ("train", "open_vocabulary", lambda c: c["categories"].pop(1), r"'air_conditioner': base classes that the tr"),
        ("val", "open_vocabulary", lambda c: c["categories"][1].update(frequency="x"), r"'air_conditioner': neither f"),
        ("val", "open_vocabulary", lambda c: c["categories"][1].update(name="bow_weapon"), r"are one name once"),
        (
            "val",
            "open_vocabulary",
            lambda c: c["images"][0].pop("coco_url"),
            r"image 21, key 'file_name': there is no file name",
        ),
        ("train", "open_vocabulary", lambda c: c["images"][2].pop("neg_category_ids"), r"image 3, key 'neg_cat"),
        (
            "train",
            "open_vocabulary",
            lambda c: c["categories"][3].pop("frequency"),
            r"key 'frequency': 'chair': neither f",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    real: SimpleNamespace, split: str, classes: str, edit: Any, message: str
) -> None:
    key = f"instances_{split}"
    edited = _edited(getattr(real.lvis.files, key), edit)
    with pytest.raises(InputError, match=rf"sets/changed\.json.*{message}"):
        _write(real.lvis, classes=classes, **{key: edited})
    assert not any(SETS.iterdir())
