"""A hand-made data folder in the project's layout, small enough to read, for planting faults in."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 40, 30
SPLITS = {"train": 1, "dev": 11, "val": 21}  # first image id
SHAPES = {1: ("star", "base"), 2: ("ring", "novel"), 3: ("boat", "base")}
KINDS = {1: ("red_star", "f"), 2: ("blue_ring_(round)", "r"), 3: ("red_boat", "c")}


def jpeg(seed: int) -> bytes:
    """Return a JPEG of noise, 40 x 30, other bytes for another seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def _images(folder: Path, first: int, **more: Any) -> list[dict[str, Any]]:
    folder.mkdir(parents=True)
    images = []
    for number in range(first, first + 3):
        (folder / f"{number:012d}.jpg").write_bytes(jpeg(zlib.crc32(f"{folder.parts[-2:]}{number}".encode())))
        images.append({"id": number, "width": WIDTH, "height": HEIGHT, **more})
    return images


def _boxes(first: int, classes: tuple[int, ...], **more: Any) -> list[dict[str, Any]]:
    """Give each of three images a box of each class."""
    return [
        {
            "id": 100 * image + category,
            "image_id": image,
            "category_id": category,
            "bbox": [2.0 * category, 3, 10.5, 12],
            "area": 100.0,
            "segmentation": [[2.0 * category, 3, 12, 3, 12, 15]],
            **more,
        }
        for image in range(first, first + 3)
        for category in classes
    ]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _coco(root: Path) -> None:
    for split, first in SPLITS.items():
        images = [image | {"file_name": f"{image['id']:012d}.jpg"} for image in _images(root / split, first)]
        kept = (1, 3) if split == "train" else (1, 2, 3)
        content = {
            "images": images,
            "annotations": _boxes(first, kept, iscrowd=0),
            "categories": [{"id": number, "name": SHAPES[number][0]} for number in kept],
        }
        _write(root / "annotations" / f"{split}.json", content)
    classes = [{"id": number, "name": name, "split": split} for number, (name, split) in SHAPES.items()]
    _write(root / "classes.json", {"dataset": "coco", "classes": classes})


def _lvis(root: Path) -> None:
    for split, first in SPLITS.items():
        lists = {"neg_category_ids": [2] if split == "train" else [], "not_exhaustive_category_ids": [1]}
        images = [
            image | {"coco_url": f"http://images.cocodataset.org/{split}/{image['id']:012d}.jpg"}
            for image in _images(root / split, first, **lists)
        ]
        content = {
            "images": images,
            "annotations": _boxes(first, (1, 3) if split == "train" else (1, 2, 3)),
            "categories": [{"id": number, "name": name, "frequency": f} for number, (name, f) in KINDS.items()],
        }
        _write(root / "annotations" / f"{split}.json", content)
    classes = [
        {
            "id": number,
            "name": name.replace("_", " ").replace("(", "").replace(")", ""),
            "split": "novel" if f == "r" else "base",
            "frequency": f,
        }
        for number, (name, f) in KINDS.items()
    ]
    _write(root / "classes.json", {"dataset": "lvis", "classes": classes})


def _scenes(root: Path) -> None:
    images = [image | {"file_name": f"{image['id']:012d}.jpg"} for image in _images(root / "images", 1)]
    captions = [{"id": i, "image_id": 1 + i % 3, "caption": f"two red stars and a boat, {i}"} for i in range(6)]
    _write(root / "captions.json", {"images": images, "annotations": captions})


def _pairs(root: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        (root / split).mkdir(parents=True)
        with tarfile.open(root / split / "00000.tar", "w") as tar:
            for number in range(3):
                for extension, content in (("jpg", jpeg(1000 * seed + number)), ("txt", b"a red star")):
                    member = tarfile.TarInfo(f"{number:09d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def clean_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``data`` without a fault; tests must not change it."""
    root = tmp_path_factory.mktemp("clean") / "data"
    _coco(root / "sets/coco")
    _lvis(root / "sets/lvis")
    _scenes(root / "scenes")
    _pairs(root / "pairs")
    return root


@pytest.fixture
def data(clean_data: Path, tmp_path: Path) -> Path:
    """A copy of the clean folder to plant faults in."""
    return Path(shutil.copytree(clean_data, tmp_path / "data"))


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], None]], None]:
    """A function that changes the content of a JSON file."""

    def change(path: Path, mutate: Callable[[Any], None]) -> None:
        content = json.loads(path.read_text())
        mutate(content)
        path.write_text(json.dumps(content))

    return change
