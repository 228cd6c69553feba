"""Karpathy JSON as captions of a profile: told by its content, its training images read, bad records set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regionclip.data.captions import open_captioned_images
from regionclip.data.captions.json_files import KarpathyCaptions
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import write_json


def record(name: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    return {"sentids": [1], "filename": name, "split": split, "sentences": [{"raw": c} for c in captions], **more}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Flickr30K's form: two training images, one of val and one of test."""
    records = [record("1.jpg", "train", "Two dogs .", "A dog ."), record("2.jpg", "val", "A cat .")]
    records += [record("3.jpg", "test", "A bus ."), record("4.jpg", "train", "A red car .")]
    write_json(tmp_path / "dataset_flickr30k.json", {"images": records, "dataset": "flickr30k"})
    return tmp_path / "dataset_flickr30k.json"


def test_a_profile_reads_the_training_images(file: Path) -> None:
    source = open_captioned_images(file, "pictures")
    assert [(item.key, item.image, item.captions) for item in source] == [
        ("1.jpg", Path("pictures/1.jpg"), ("Two dogs .", "A dog .")),
        ("4.jpg", Path("pictures/4.jpg"), ("A red car .",)),
    ]
    assert source.listed == {"images": 2, "captions": 3}


def test_a_file_of_utf_16_is_told_by_its_content_too(file: Path) -> None:
    file.write_bytes(file.read_text().encode("utf-16"))
    assert [item.key for item in open_captioned_images(file, "pictures")] == ["1.jpg", "4.jpg"]


def test_of_coco_the_rest_of_val_is_trained_on_too(tmp_path: Path) -> None:
    records = [record("9.jpg", split, "a", filepath="val2014") for split in ("restval", "val", "test")]
    records.append(record("9.jpg", "train", "b", filepath="train2014"))
    write_json(tmp_path / "dataset_coco.json", {"images": records, "dataset": "coco"})
    assert [item.key for item in open_captioned_images(tmp_path / "dataset_coco.json", tmp_path)] == [
        "val2014/9.jpg",
        "train2014/9.jpg",
    ]


def test_bad_records_are_set_aside_with_their_place(file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_text())
    content["images"] += [
        {"split": "train", "sentences": []},
        record("5.jpg", "train", "a\x07b"),
        record("6.jpg", "train", "a"),
    ]
    content["images"].append({"filename": "7.jpg", "split": "train", "sentences": [{"tokens": []}]})
    write_json(file, content)
    for name in ("1.jpg", "4.jpg", "5.jpg", "7.jpg"):
        (tmp_path / name).write_bytes(b"jpeg")
    with pytest.raises(InputError, match=r"record images\[4\], key 'filename': the key is missing"):
        list(open_captioned_images(file, tmp_path))
    with Rejects(tmp_path / "x_rejected.jsonl", 0.9) as rejects:
        source = open_captioned_images(file, tmp_path, rejects)
        assert [item.key for item in source] == ["1.jpg", "4.jpg"] and source.listed["images"] == 6
    lines = [json.loads(line) for line in (tmp_path / "x_rejected.jsonl").read_text().splitlines()]
    assert [(line["record"], line["key"], line["reason"]) for line in lines] == [
        ("images[4]", "filename", "the key is missing"),
        ("images[5]", "sentences", "the caption has control characters"),
        ("images[6]", "filename", "the image does not exist"),
        ("images[7]", "raw", "the key is missing"),
    ]


def test_an_absent_split_is_refused(file: Path, tmp_path: Path) -> None:
    assert len(list(KarpathyCaptions(file, tmp_path))) == 1
    with pytest.raises(InputError, match="no image is of the split 'restval or dev'"):
        KarpathyCaptions(file, tmp_path, ("restval", "dev"))


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ([], "images"),
        ({"images": {}}, "images"),
        ({"images": [{"filename": "1.jpg", "sentences": []}]}, "split"),
        ({"images": [record("1.jpg", "train", "a")]}, "split"),
        ({"images": [{"filename": "1.jpg", "split": "test"}]}, "sentences"),
        ({"images": [{"split": "test", "sentences": []}]}, "filename"),
        ({"images": [{"filename": "1.jpg", "split": "test", "sentences": [{"tokens": []}]}]}, "raw"),
    ],
)
def test_another_file_is_refused_with_the_key(tmp_path: Path, content: Any, key: str) -> None:
    write_json(tmp_path / "x.json", content)
    with pytest.raises(InputError) as caught:
        list(KarpathyCaptions(tmp_path / "x.json", tmp_path))
    assert (caught.value.file, caught.value.key) == (tmp_path / "x.json", key)
