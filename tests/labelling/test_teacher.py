"""How well a CLIP recognises images and crops: counted on pictures whose right answers are known."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.checkpoints.clip_folder import MEAN, STD, ClipFolder
from regionclip.data.layout import ClassList, DetectionSet
from regionclip.labelling.teacher import classify_crops, image_top1, normalized
from regionclip.labelling.views import RegionTeacher
from regionclip.text.text_bank import TextBank

NAMES = ("star", "ring", "boat")


@pytest.fixture(autouse=True)
def _cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")


@pytest.fixture(scope="module")
def clip(clip_path: Path) -> ClipFolder:
    return ClipFolder.open(clip_path)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Three pictures of noise, 64 x 64."""
    return list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))


def _bank(features: torch.Tensor) -> TextBank:
    """A bank whose row is the feature itself, so that the nearest name is known."""
    return TextBank(NAMES, features.clone(), ("a {}",), "tiny", "0" * 64)


def _shards(folder: Path, pairs: list[tuple[np.ndarray, str]]) -> Path:
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, (pixels, caption) in enumerate(pairs):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            for extension, content in (("png", file.getvalue()), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


def test_normalisation_is_clips(pictures: list[np.ndarray]) -> None:
    values = normalized(pictures[0])
    expected = (pictures[0][5, 9] / 255 - np.array(MEAN)) / np.array(STD)
    assert values.shape == (3, 64, 64) and values.dtype == torch.float32
    assert values[:, 5, 9].tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_images_are_counted_whose_caption_holds_exactly_one_name(
    clip: ClipFolder, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """Right, right, wrong; a caption with no name, one with two, and one with a longer word do not count."""
    with torch.no_grad():
        features = clip.model().encode_image(torch.stack([normalized(image) for image in pictures]))
    captions = ["A red Star.", "one ring on the sand", "a star", "a cloud", "a star and a boat", "starfish"]
    images = [pictures[0], pictures[1], pictures[2], pictures[0], pictures[0], pictures[0]]
    shards = _shards(tmp_path / "pairs", list(zip(images, captions, strict=True)))
    assert image_top1(clip, shards, _bank(features)) == pytest.approx(2 / 3)


def test_no_image_that_counts(clip: ClipFolder, pictures: list[np.ndarray], tmp_path: Path) -> None:
    shards = _shards(tmp_path / "pairs", [(pictures[0], "a cloud")])
    assert image_top1(clip, shards, _bank(torch.eye(3, 32))) == 0.0


def test_crops_of_true_boxes_are_counted_by_category(
    clip: ClipFolder, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """Ids are not in steps of one. Three of four boxes have the nearest name's category; a crowd does not count."""
    boxes = {1: [(4, [4, 4, 20, 30]), (7, [30, 20, 20, 20])], 2: [(9, [10, 10, 40, 20]), (4, [2, 40, 20, 10])], 3: []}
    images, annotations = [], []
    for number, picture in enumerate(pictures, 1):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        annotations += [{"image_id": number, "category_id": kind, "bbox": box} for kind, box in boxes[number]]
    annotations.append({"image_id": 3, "category_id": 4, "bbox": [0, 0, 64, 64], "iscrowd": 1})
    annotations = [
        entry | {"id": i, "iscrowd": entry.get("iscrowd", 0), "area": 1} for i, entry in enumerate(annotations)
    ]
    categories = [{"id": identity, "name": name} for identity, name in zip((4, 7, 9), NAMES, strict=True)]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))

    teacher = RegionTeacher(clip.model(), "crop", 1.3)
    first, second = (
        torch.tensor([[4.0, 4, 24, 34], [30, 20, 50, 40]]),
        torch.tensor([[10.0, 10, 50, 30], [2, 40, 22, 50]]),
    )
    star, ring = teacher(normalized(pictures[0])[None], [first])
    boat, wrong = teacher(normalized(pictures[1])[None], [second])
    classes = ClassList(NAMES, (4, 7, 9), (NAMES[0], NAMES[2]), (NAMES[1],), {})
    bank = _bank(torch.stack([star, ring, boat]))
    nearest = torch.nn.functional.cosine_similarity(wrong[None], bank.embeddings).argmax()
    assert nearest != 0, "the fourth box must be one that is named wrongly"
    result = classify_crops(clip, DetectionSet(tmp_path, file), classes, bank, 1.3)
    assert result["top1_all"] == 3 / 4
    assert (result["top1_base"], result["top1_novel"], result["class_mean_top1_base"]) == (2 / 3, 1.0, 3 / 4)
    assert (result["recipe"]["view"], result["regions"]["all"]) == ("crop", 4)
