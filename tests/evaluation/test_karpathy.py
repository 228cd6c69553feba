"""Karpathy splits: the images of one split with their captions, for Flickr30K and for COCO, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regionclip.errors import InputError
from regionclip.evaluation.karpathy import KarpathyCaptions
from regionclip.files import write_json


def record(name: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    return {"filename": name, "split": split, "sentences": [{"raw": caption} for caption in captions], **more}


def test_flickr_has_the_images_of_its_split(tmp_path: Path) -> None:
    file = tmp_path / "dataset_flickr30k.json"
    records = [record("1.jpg", "train", "a"), record("2.jpg", "test", " Two dogs . ", ""), record("3.jpg", "test", "b")]
    write_json(file, {"images": [*records, record("4.jpg", "test", " ")], "dataset": "flickr30k"})
    source = KarpathyCaptions(file, tmp_path / "images")
    assert [(item.key, item.image, item.captions) for item in source] == [
        ("2.jpg", tmp_path / "images/2.jpg", ("Two dogs .",)),
        ("3.jpg", tmp_path / "images/3.jpg", ("b",)),
    ]
    assert dict(source.skipped) == {"empty caption": 2, "image without caption": 1}
    assert [item.key for item in KarpathyCaptions(file, tmp_path, "train")] == ["1.jpg"]


def test_coco_has_folders(tmp_path: Path) -> None:
    file = tmp_path / "dataset_coco.json"
    write_json(file, {"images": [record("9.jpg", "test", "a cat", filepath="val2014")]})
    assert [item.image for item in KarpathyCaptions(file, tmp_path)] == [tmp_path / "val2014/9.jpg"]


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
    file = tmp_path / "x.json"
    write_json(file, content)
    with pytest.raises(InputError) as caught:
        list(KarpathyCaptions(file, tmp_path))
    assert (caught.value.file, caught.value.key) == (file, key)
