"""The report's sheet of detections is drawn whatever the split holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip.stages import report


def _split(novel: dict[int, int]) -> None:
    """Write a COCO split in the current folder; ``novel`` tells how many novel objects each picture has."""
    root = Path("data/sets/coco")
    (root / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number, count in novel.items():
        Image.fromarray(np.full((48, 48, 3), 40 * number, np.uint8)).save(root / f"val/{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 48})
        for category in [1] + [2] * count:
            entry = {"image_id": number, "category_id": category, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
            annotations.append(entry | {"id": len(annotations) + 1})
    categories = [{"id": 1, "name": "star"}, {"id": 2, "name": "ring"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/val.json").write_text(json.dumps(content))
    classes = [{"id": 1, "name": "star", "split": "base"}, {"id": 2, "name": "ring", "split": "novel"}]
    (root / "classes.json").write_text(json.dumps({"dataset": "coco", "classes": classes}))
    found = [{"image_id": number, "category_id": 1, "bbox": [4, 4, 20, 20], "score": 0.9} for number in novel]
    folder = Path("artifacts/evaluate/coco")
    folder.mkdir(parents=True)
    for model in ("clip", "regionclip"):
        (folder / f"{model}.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("novel", "drawn"),
    [
        ({1: 0, 2: 2, 3: 1, 4: 3, 5: 2, 6: 2}, [2, 4, 5, 6]),
        ({1: 0, 2: 1, 3: 2}, [3, 2, 1]),
        ({1: 0}, [1]),
    ],
)
def test_scenes_with_novel_objects_come_first(
    novel: dict[int, int], drawn: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _split(novel)
    shown: list[int] = []

    def draw(pictures: list[np.ndarray], *others: object) -> None:
        shown.extend(int(picture[0, 0, 0]) // 40 for picture in pictures)

    monkeypatch.setattr(report, "detection_sheet", draw)
    report._sheet(tmp_path / "sheet.png", "coco", "val")
    assert shown == drawn


def test_sheet_of_a_split_without_novel_objects_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _split({1: 0, 2: 0})
    report._sheet(tmp_path / "sheet.png", "coco", "val")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_its_start_takes_no_torch() -> None:
    """It only reads numbers and draws; torch and torchvision would take most of its time."""
    code = "import sys, regionclip.stages.report; print({'torch', 'mmdet', 'open_clip'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
