"""Official counts: the whole of a public set passes; a part or another set is named, with found and expected."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.gate import gate
from regionclip.contracts.official_counts import caption_counts_check, detection_counts_check
from regionclip.errors import DataCheckFailed
from regionclip.files import read_json, write_json

# Sums by hand: read = written + left out + boxes without area, for 48 of 80 classes.
COCO = {
    "format": "coco",
    "classes": "open_vocabulary",
    "sources": {
        "train": {"file": "instances_train2017.json", "images": 118287, "annotations": 860001},
        "val": {"file": "instances_val2017.json", "images": 5000, "annotations": 36781},
    },
    "counts": {
        "train_images": 107761, "train_annotations": 600000, "train_categories": 48, "train_images_left_out": 10526,
        "train_annotations_left_out": 260001,
        "val_images": 4836, "val_annotations": 30000, "val_categories": 65, "val_images_left_out": 164,
        "val_annotations_left_out": 6781,
    },
}  # fmt: skip


def _changed(**changes: Any) -> dict[str, Any]:
    """The manifest with ``part__key=value``."""
    about = deepcopy(COCO)
    for name, value in changes.items():
        *path, last = name.split("__")
        part = about
        for key in path:
            part = part[key]
        part[last] = value
    return about


def _gate(tmp_path: Path, about: dict[str, Any], name: str = "coco") -> list[dict[str, Any]]:
    write_json(tmp_path / "manifest.json", about)
    return gate("counts", [detection_counts_check(name, tmp_path / "manifest.json")], tmp_path)


def test_the_whole_set_passes(tmp_path: Path) -> None:
    assert all(result["success"] for result in _gate(tmp_path, COCO))


def test_files_derived_by_others_are_told_by_the_split_alone(tmp_path: Path) -> None:
    """instances_train2017_seen_2.json lists other numbers than COCO's file; the 48/17 split of it is the same."""
    derived = {"file": "instances_train2017_seen_2.json", "images": 107761, "annotations": 600000}
    left_out = {"counts__train_images_left_out": 0, "counts__train_annotations_left_out": 0}
    assert all(result["success"] for result in _gate(tmp_path, _changed(sources__train=derived, **left_out)))


def test_what_was_set_aside_explains_a_split_but_not_a_source(tmp_path: Path) -> None:
    """Two pictures that did not decode lack in the split; the source still lists them."""
    assert all(result["success"] for result in _gate(tmp_path, _changed(counts__train_images=107759)))
    unexplained = _changed(counts__train_images=107759, counts__train_images_left_out=10528)
    with pytest.raises(DataCheckFailed, match="counted images, expected 107761, found 107759"):
        _gate(tmp_path, unexplained)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources__train__images": 118286}, "images of instances_train2017.json, expected 118287, found 118286"),
        ({"sources__val__annotations": 36780}, "annotations of instances_val2017.json, expected 36781, found 36780"),
        (
            {"counts__val_images": 4000, "counts__val_images_left_out": 1000},
            "counted images, expected 4836, found 4000",
        ),
        ({"counts__train_categories": 47}, "split train, counted categories, expected 48, found 47"),
        ({"counts__val_images": 4900}, "split val, counted images, expected 4836, found 4900"),
    ],
)
def test_a_part_of_it_is_an_error_that_says_how_to_say_so(tmp_path: Path, change: dict[str, int], words: str) -> None:
    with pytest.raises(DataCheckFailed) as stop:
        _gate(tmp_path, _changed(**change))
    assert words in stop.value.record and "coco2017" in stop.value.problem
    assert "take coco2017 out of check_data.official" in stop.value.mend


def test_lvis_has_its_own(tmp_path: Path) -> None:
    sources = {
        "train": {"file": "lvis_v1_train.json", "images": 100170, "annotations": 1270141},
        "val": {"file": "lvis_v1_val.json", "images": 19809, "annotations": 244707},
    }
    counts = {f"{split}_images_left_out": 0 for split in sources}
    counts |= {"train_annotations_left_out": 6000, "val_annotations_left_out": 0, "train_images_left_out": 800}
    counts |= {"train_images": 99370, "train_annotations": 1264141, "train_categories": 866}
    counts |= {"val_images": 19809, "val_annotations": 244707, "val_categories": 1203}
    about = {"format": "lvis", "classes": "open_vocabulary", "sources": sources, "counts": counts}
    assert all(result["success"] for result in _gate(tmp_path, about, "long_tail"))
    counts["train_categories"] = 1203
    with pytest.raises(DataCheckFailed, match="expected 866, found 1203"):
        _gate(tmp_path, about, "long_tail")


def _captions(tmp_path: Path, official: str, **listed: int) -> list[dict[str, Any]]:
    gate("captions", [caption_counts_check(official, Path("c"), listed)], tmp_path)
    return [result for result in read_json(tmp_path / "checks/captions.json")["results"] if not result["success"]]


def test_captions_are_counted(tmp_path: Path) -> None:
    assert _captions(tmp_path, "coco_captions", images=118287, captions=591753) == []
    assert _captions(tmp_path, "flickr30k", images=29000, captions=145000) == []
    with pytest.raises(DataCheckFailed, match="counted captions, expected 591753, found 591752"):
        _captions(tmp_path, "coco_captions", images=118287, captions=591752)


def test_a_set_of_links_may_have_lost_some_but_has_no_more(tmp_path: Path) -> None:
    """Two of CC3M's three million links still work: how many there are is shown as a warning."""
    lost = _captions(tmp_path, "cc3m", images=2_300_000, captions=2_300_000)
    assert [(r["severity"], r["problem"]) for r in lost] == [("warning", "this is not the whole of cc3m")]
    assert (lost[0]["records"][0]["expected"], lost[0]["records"][0]["found"]) == (3318333, 2300000)
    with pytest.raises(DataCheckFailed, match="this is more than cc3m has"):
        _captions(tmp_path, "cc3m", images=3_318_334, captions=0)
