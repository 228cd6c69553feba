"""COCO's splits: counted by hand, the same from every spelling of the field, and never with a novel box in training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.artifacts import SETS
from regionclip.data.annotations.annotation_files import assert_no_novel, keep_categories
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.layout import detection_set, load_classes
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.params import check_params
from regionclip.params.data import DataSet, OwnClasses
from regionclip.workspace.profiles import compose_profile
from tests.data.conftest import changed

Content = dict[str, Any]
Edit = Callable[[Content], Content]

NOVEL = {5, 6, 17, 18, 21, 22, 28, 32, 36, 41, 47, 49, 61, 63, 76, 81, 87}  # airplane, bus, cat, ..., scissors
NEITHER = {10, 11, 13, 14, 37, 39, 40, 43, 46, 58, 64, 67, 77, 88, 89}  # traffic light, ..., hair drier
BASE = set(range(1, 91)) - NOVEL - NEITHER - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def _write(about: DataSet, **changes: Any) -> tuple[Content, Content, dict[str, int]]:
    counts = write_detection_set(SETS, "coco", changed(about, **changes))
    train, val = (read_json(detection_set("coco", split).annotations) for split in ("train", "val"))
    return train, val, counts


def test_open_vocabulary_counts_by_hand(real: SimpleNamespace) -> None:
    """Training keeps a person, a crowd of persons (which keeps its image) and a toothbrush; ids stay as they were."""
    train, val, counts = _write(real.coco)
    assert [image["id"] for image in train["images"]] == [1, 3, 5]
    assert [(a["image_id"], a["category_id"], a["iscrowd"]) for a in train["annotations"]] == [
        (1, 1, 0),
        (5, 90, 0),
        (3, 1, 1),
    ]
    assert [image["id"] for image in val["images"]] == [11, 13]
    assert [(a["image_id"], a["category_id"]) for a in val["annotations"]] == [(11, 17), (11, 1), (13, 6)]
    assert counts == {
        "val_images": 2,
        "val_annotations": 3,
        "val_categories": 65,
        "val_images_left_out": 2,
        "val_annotations_left_out": 1,
        "train_images": 3,
        "train_annotations": 3,
        "train_categories": 48,
        "train_images_left_out": 2,
        "train_annotations_left_out": 4,
    }


def test_classes_are_in_the_order_of_coco_ids(real: SimpleNamespace) -> None:
    """Index is label: the third of the training classes is car; in the test the fifth and sixth are novel."""
    train, val, _ = _write(real.coco)
    classes = load_classes("coco")
    assert {c["id"] for c in train["categories"]} == BASE and len(BASE) == 48
    assert {c["id"] for c in val["categories"]} == BASE | NOVEL
    assert classes.ids == tuple(sorted(BASE | NOVEL)) and classes.names[64] == "toothbrush"
    assert classes.base_names[:5] == ("person", "bicycle", "car", "motorcycle", "train")
    assert classes.names[4:6] == ("airplane", "bus") == classes.novel_names[:2]
    assert classes.ids_of(classes.novel_names) == NOVEL


def test_supervised_keeps_all_80_classes_and_every_image(real: SimpleNamespace) -> None:
    train, val, counts = _write(real.coco, classes="supervised")
    assert detection_set("coco", "val").annotations.name == "val.json"
    assert [len(train["images"]), len(train["annotations"]), len(train["categories"])] == [5, 7, 80]
    assert [len(val["images"]), len(val["annotations"]), len(val["categories"])] == [4, 4, 80]
    assert len(load_classes("coco").base_names) == 80 and load_classes("coco").novel_names == ()
    assert counts["train_images_left_out"] == counts["val_annotations_left_out"] == 0


def test_boxes_without_area_are_set_aside_and_counted(real: SimpleNamespace) -> None:
    """As annotation 2206849 of COCO's train2017; the image of no other box goes with it."""
    content = read_json(real.coco.files.instances_train)
    next(a for a in content["annotations"] if a["category_id"] == 1)["bbox"][3] = 0.0
    write_json(real.coco.files.instances_train, content)
    with Rejects("coco_rejected.jsonl", 0.5) as rejects:
        counts = write_detection_set(SETS, "coco", real.coco, rejects)
    train = read_json(detection_set("coco", "train").annotations)
    assert [image["id"] for image in train["images"]] == [3, 5]
    assert [a["category_id"] for a in train["annotations"]] == [90, 1]
    assert (counts["train_annotations"], counts["train_annotations_left_out"], counts["rejected"]) == (2, 4, 1)
    sources = read_json("data/sets/coco/manifest.json")["sources"]
    assert [sources[split]["set_aside"] for split in ("train", "val")] == [{"the box is empty": 1}, {}]


def _with_vectors(content: Content) -> Content:
    return content | {"categories": [c | {"embedding": [0.5, 0.25]} for c in content["categories"]]}


def _renumbered(content: Content) -> Content:
    new = {category["id"]: i for i, category in enumerate(content["categories"])}
    categories = [category | {"id": new[category["id"]]} for category in content["categories"]]
    annotations = [a | {"category_id": new[a["category_id"]]} for a in content["annotations"]]
    return content | {"categories": categories, "annotations": annotations}


def _boxes_of(ids: set[int], *, all_images: bool = False) -> Edit:
    """Drop boxes of other classes but list all categories."""
    return lambda c: keep_categories(c, ids, keep_empty=all_images) | {"categories": c["categories"]}


def _only(ids: set[int]) -> Edit:
    return lambda content: keep_categories(content, ids, keep_empty=False)


SPELLINGS: dict[str, tuple[Edit, Edit]] = {
    "seen_2 and all_2, with word vectors": (
        lambda c: _with_vectors(_only(BASE)(c)),
        lambda c: _with_vectors(_only(BASE | NOVEL)(c)),
    ),
    "oriorder, 80 categories": (_boxes_of(BASE), _boxes_of(BASE | NOVEL)),
    "seen_2_65_cat": (lambda c: _boxes_of(BASE)(_only(BASE | NOVEL)(c)), _only(BASE | NOVEL)),
    "ovd_ins_b and ovd_ins_all": (_only(BASE), _only(BASE | NOVEL)),
    "ovd_ins_all for training": (_only(BASE | NOVEL), _only(BASE | NOVEL)),
    "base boxes, images not filtered": (_boxes_of(BASE, all_images=True), lambda c: c),
    "renumbered ids": (lambda c: _renumbered(_only(BASE)(c)), lambda c: _renumbered(_only(BASE | NOVEL)(c))),
    "categories in another order": (lambda c: c | {"categories": c["categories"][::-1]}, lambda c: c),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_what_the_original_gives(real: SimpleNamespace, spelling: str) -> None:
    wanted = _write(real.coco)[:2]
    files = {}
    for split, edit in zip(("train", "val"), SPELLINGS[spelling], strict=True):
        files[f"instances_{split}"] = f"sets/derived_{split}.json"
        write_json(files[f"instances_{split}"], edit(read_json(getattr(real.coco.files, f"instances_{split}"))))
    assert _write(real.coco, **files)[:2] == wanted
    assert assert_no_novel(detection_set("coco", "train").annotations, "data/sets/coco/classes.json") == 3


def _renamed(old: str, new: str) -> Edit:
    def rename(content: Content) -> Content:
        names = [c | {"name": new if c["name"] == old else c["name"]} for c in content["categories"]]
        return content | {"categories": names}

    return rename


@pytest.mark.parametrize(
    ("split", "classes", "edit", "message"),
    [
        ("train", "open_vocabulary", _only(NOVEL), r"lacks 48 of the 48 base classes: 'person'.*and 36 more"),
        ("train", "open_vocabulary", _boxes_of(NOVEL), r"no box of any base class \('person', 'bicycle'.*and 36 more"),
        ("val", "open_vocabulary", _only(BASE), r"lacks 17 of the 17 novel classes: 'airplane', 'bus', 'cat'"),
        ("val", "open_vocabulary", _boxes_of(BASE), r"no box of any novel class \('airplane'"),
        ("train", "supervised", _boxes_of(BASE | NOVEL), r"no box of any remaining class \('traffic light'"),
        ("train", "supervised", _only(BASE), r"lacks 17 of the 17 novel classes"),
        ("train", "open_vocabulary", _renamed("dog", "Dog"), r"'Dog': no class of COCO.*write 'dog', as COCO does"),
        ("val", "supervised", _renamed("stop sign", "Stop_(sign)"), r"no class of COCO.*write 'stop sign', as"),
        ("val", "supervised", _renamed("dog", "puppy"), r"'puppy': no class of COCO.*give a file made from COCO 2017"),
        ("train", "open_vocabulary", _renamed("dog", "cat"), r"more than once: 'cat'"),
        ("val", "open_vocabulary", lambda c: _only(BASE | NOVEL - {6})(c), r"lacks 1 of the 17 novel classes: 'bus'"),
    ],
)
def test_a_file_of_another_split_is_refused_with_its_names(
    real: SimpleNamespace, split: str, classes: str, edit: Edit, message: str
) -> None:
    key = f"instances_{split}"
    write_json("sets/other.json", edit(read_json(getattr(real.coco.files, key))))
    with pytest.raises(InputError, match=rf"sets/other\.json.*{message}"):
        _write(real.coco, classes=classes, **{key: "sets/other.json"})
    assert not Path("data/sets/coco").exists() and not any(SETS.iterdir())


def test_label_names_in_a_message_are_cut(real: SimpleNamespace) -> None:
    """A long list of names stays readable: twelve of them and a count."""
    write_json("sets/other.json", _only(NOVEL)(read_json(real.coco.files.instances_train)))
    with pytest.raises(InputError) as caught:
        _write(real.coco, instances_train="sets/other.json")
    assert len(re.findall(r"'[^']+'", caught.value.problem)) == 12


def _own(about: DataSet, base: list[str], novel: list[str]) -> tuple[Content, Content, dict[str, int]]:
    return _write(about, classes=OwnClasses(base=base, novel=novel))


def test_own_classes_are_kept_by_name_and_every_other_one_goes(real: SimpleNamespace) -> None:
    """Images 2 to 4 have no person and no toothbrush; 3 has a crowd of persons. Every validation image stays."""
    train, val, counts = _own(real.coco, ["toothbrush", "person"], ["cat"])
    assert [image["id"] for image in train["images"]] == [1, 3, 5]
    assert sorted((a["image_id"], a["category_id"]) for a in train["annotations"]) == [(1, 1), (3, 1), (5, 90)]
    assert [category["name"] for category in train["categories"]] == ["person", "toothbrush"]
    assert [image["id"] for image in val["images"]] == [11, 12, 13, 14]
    assert [(a["image_id"], a["category_id"]) for a in val["annotations"]] == [(11, 17), (11, 1)]
    assert load_classes("coco").names == ("person", "cat", "toothbrush")
    assert load_classes("coco").novel_names == ("cat",)
    assert (counts["train_images_left_out"], counts["train_annotations_left_out"]) == (2, 4)
    assert (counts["val_images_left_out"], counts["val_annotations_left_out"]) == (0, 2)
    assert detection_set("coco", "train").annotations.name == "train.json"
    assert assert_no_novel(detection_set("coco", "train").annotations, "data/sets/coco/classes.json") == 3
    manifest = read_json("data/sets/coco/manifest.json")
    assert manifest["classes"] == {"base": ["toothbrush", "person"], "novel": ["cat"]}


def test_without_novel_classes_pictures_without_objects_train_too(real: SimpleNamespace) -> None:
    train, _, counts = _own(real.coco, ["person"], [])
    assert [image["id"] for image in train["images"]] == [1, 2, 3, 4, 5] and counts["train_images_left_out"] == 0
    assert load_classes("coco").novel_names == ()


def test_own_files_may_number_and_order_their_categories_each_in_its_way(real: SimpleNamespace) -> None:
    """The ids of the validation file stand in both, so that results can be handed in against it."""
    wanted = _own(real.coco, ["person", "toothbrush"], ["cat"])[:2]
    content = _renumbered(read_json(real.coco.files.instances_train))
    write_json(real.coco.files.instances_train, content | {"categories": content["categories"][::-1]})
    assert _own(real.coco, ["person", "toothbrush"], ["cat"])[:2] == wanted


def test_area_and_crowd_follow_from_the_box_where_a_tool_leaves_them_out(real: SimpleNamespace) -> None:
    for file in (real.coco.files.instances_train, real.coco.files.instances_val):
        content = read_json(file)
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"]
        write_json(file, content)
    train, _, _ = _own(real.coco, ["person"], [])
    assert {(a["area"], a["iscrowd"]) for a in train["annotations"]} == {(80.0, 0)}


@pytest.mark.parametrize("box", [["1", "2", "3", "4"], [1, 2, 3], {"x": 1}, None])
def test_a_box_that_is_none_is_named(real: SimpleNamespace, box: Any) -> None:
    content = read_json(real.coco.files.instances_train)
    content["annotations"][1]["bbox"] = box
    write_json(real.coco.files.instances_train, content)
    with pytest.raises(
        InputError, match=r"train2017\.json, record annotation 101, key 'bbox': the box is not a list of four numbers"
    ):
        _own(real.coco, ["person"], [])


@pytest.mark.parametrize(
    ("base", "novel", "message"),
    [
        (["Person"], [], r"no class 'Person'\. To mend: write 'person', as the file does"),
        (["traffic_light"], [], r"no class 'traffic_light'\. To mend: write 'traffic light', as"),
        (["toothbrushes"], [], r"no class 'toothbrushes'\. To mend: write 'toothbrush', as"),
        (["xylophone"], [], r"no class 'xylophone'\. To mend: the file has 'airplane', 'apple'.*and 68 more"),
        (["person"], ["zebra"], r"instances_val2017.*there is no box of 'zebra'"),
        (["cow", "dog"], [], r"instances_val2017.*there is no box of 'cow', 'dog'"),
    ],
)
def test_own_names_that_do_not_fit_are_named(
    real: SimpleNamespace, base: list[str], novel: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _own(real.coco, base, novel)
    assert not Path("data/sets/coco").exists()


@pytest.mark.parametrize(
    ("classes", "key", "message"),
    [
        ("open", "choice", "'open_vocabulary', 'supervised' or 'all'; got 'open'"),
        ({"base": []}, "own.base", "at least 1 item"),
        ({"base": ["a"]}, "own.novel", "missing"),
        ({"base": ["a"], "novel": [1]}, "own.novel.0", "valid string; got 1"),
        ({"base": ["a", "b", "b"], "novel": ["a"]}, "own", "more than once: a, b"),
        ({"base": ["a"], "novel": [], "rest": []}, "own.rest", "unknown key"),
    ],
)
def test_params_that_name_classes_badly_are_refused(classes: Any, key: str, message: str) -> None:
    values = compose_profile("transfer_coco48_rn50")
    values["data"]["sets"]["coco"]["classes"] = classes
    with pytest.raises(InputError, match=message) as caught:
        check_params(values, "params.yaml")
    assert caught.value.key == f"data.sets.coco.classes.{key}"


def test_all_classes_are_those_of_which_the_validation_file_has_a_box(real: SimpleNamespace) -> None:
    """Cat, person and stop sign have one; a crowd of buses is none, and the toothbrush has a box in training only."""
    train, val, counts = _write(real.coco, classes="all")
    classes = load_classes("coco")
    assert classes.names == classes.base_names == ("person", "stop sign", "cat") and classes.novel_names == ()
    assert sorted((a["image_id"], a["category_id"]) for a in val["annotations"]) == [(11, 1), (11, 17), (12, 13)]
    boxes = [(1, 1), (1, 13), (1, 17), (2, 17), (3, 1), (5, 13)]
    assert sorted((a["image_id"], a["category_id"]) for a in train["annotations"]) == boxes
    assert [[c["id"] for c in of["categories"]] for of in (train, val)] == [[1, 13, 17]] * 2
    assert (counts["val_annotations_left_out"], counts["train_annotations_left_out"]) == (1, 1)
    assert read_json("data/sets/coco/manifest.json")["classes"] == "all"


def test_all_classes_have_the_ids_of_the_validation_file(real: SimpleNamespace) -> None:
    wanted = _write(real.coco, classes="all")[:2]
    content = _renumbered(read_json(real.coco.files.instances_train))
    write_json("sets/other.json", content | {"categories": content["categories"][::-1]})
    assert _write(real.coco, classes="all", instances_train="sets/other.json")[:2] == wanted


def test_a_closed_set_keeps_pictures_without_objects(real: SimpleNamespace) -> None:
    """Image 4 of training has no box at all; nothing unlabelled can be learned as background."""
    train, val, counts = _write(real.coco, classes="all")
    assert [image["id"] for image in train["images"]] == [1, 2, 3, 4, 5]
    assert [image["id"] for image in val["images"]] == [11, 12, 13, 14]
    assert counts["train_images_left_out"] == counts["val_images_left_out"] == 0


@pytest.mark.parametrize("crowds", [True, False])
def test_all_classes_of_a_validation_file_without_boxes_are_refused(real: SimpleNamespace, crowds: bool) -> None:
    content = read_json(real.coco.files.instances_val)
    content["annotations"] = [a for a in content["annotations"] if crowds and a["iscrowd"]]
    write_json("sets/other.json", content)
    with pytest.raises(InputError, match=r"sets/other\.json, key 'annotations': there is no box of any class"):
        _write(real.coco, classes="all", instances_val="sets/other.json")
    assert not any(SETS.iterdir())


def test_a_class_of_all_that_the_training_file_lacks_is_named(real: SimpleNamespace) -> None:
    write_json("sets/other.json", _only({1, 13})(read_json(real.coco.files.instances_train)))
    with pytest.raises(InputError, match=r"sets/other\.json, key 'categories': the file lists no class 'cat'"):
        _write(real.coco, classes="all", instances_train="sets/other.json")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sets": {"coco": {"classes": "all", "protocol": "closed_set"}}}, "sets.coco.classes"),
        ({"sets": {"coco": {"classes": {"base": ["star"], "novel": ["ring"]}}}}, "sets.coco.classes"),
        ({"captions": {"file": "captions.json", "images": None}}, "captions"),
    ],
)
def test_the_demo_world_has_its_own_classes_and_captions(change: dict[str, Any], key: str) -> None:
    values = compose_profile("demo")
    values["data"]["sets"]["coco"] |= change.get("sets", {}).get("coco", {})
    values["data"]["captions"] = change.get("captions")
    with pytest.raises(InputError, match="the demo world") as caught:
        check_params(values, "params.yaml")
    assert caught.value.key == f"data.{key}"
