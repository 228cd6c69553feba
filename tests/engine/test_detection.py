"""From a split on disk to its numbers: the classes, boxes and pixels of every step belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import BoxArrays, load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import detect, true_box_top1
from regionclip.errors import InputError
from regionclip.evaluation.detections import coco_results, read_detections
from regionclip.evaluation.protocols import measure
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import zero_shot_settings
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params.stages import Detection, ZeroShot
from regionclip.text.text_bank import TextBank

SIZES = Detection(train_short_sides=[96], test_short_side=96, max_size=200, test_batch=8, test_proposals=5)
THRESHOLDS = {name: {"gt": 0.0, "rpn": 0.0} for name in ("coco", "lvis")}
ZERO_SHOT = ZeroShot(temperature=0.01, score_mode="sigmoid", score_threshold=THRESHOLDS, nms_iou=0.5)
CLASSES = {2: ("boat", "base"), 5: ("ring", "novel"), 9: ("star", "base")}
# One object of each class, in two pictures, far apart.
OBJECTS = {21: [(9, [2, 4, 24, 30]), (5, [34, 10, 26, 30])], 22: [(2, [10, 8, 40, 36])]}
WIDTH, HEIGHT = 64, 48


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A COCO validation split of two pictures of noise, in the project's layout; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    root = tmp_path / "data/sets/coco"
    (root / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, objects in OBJECTS.items():
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(root / f"val/{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        for kind, box in objects:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": kind, "bbox": box}
            annotations.append(entry | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": identity, "name": name} for identity, (name, _) in CLASSES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/val.json").write_text(json.dumps(content))
    classes = [{"id": identity, "name": name, "split": split} for identity, (name, split) in CLASSES.items()]
    (root / "classes.json").write_text(json.dumps({"dataset": "coco", "classes": classes}))
    return root


@pytest.fixture(scope="module")
def clip(clip_path: Path) -> ClipFolder:
    return ClipFolder.open(clip_path)


@pytest.fixture
def bank(data: Path, clip: ClipFolder) -> Callable[[tuple[str, ...]], TextBank]:
    """A function that builds a bank whose row is the RoI feature of the object with that name."""
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 100, 0.0, use_objectness=False))
    encoder = RegionEncoder.from_clip(clip.model().visual).eval()
    features = {}
    for number, objects in OBJECTS.items():
        image = Image.open(data / f"val/{number}.png").resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BILINEAR)
        bgr = torch.from_numpy(np.asarray(image)[..., ::-1].copy()).permute(2, 0, 1)
        pixels = detector.data_preprocessor({"inputs": [bgr], "data_samples": None})["inputs"]
        boxes = torch.tensor([[x, y, x + w, y + h] for _, (x, y, w, h) in objects], dtype=torch.float32) * 2
        with torch.no_grad():
            regions = encoder(pixels, [boxes])
        features |= {CLASSES[kind][0]: region for (kind, _), region in zip(objects, regions, strict=True)}

    def build(order: tuple[str, ...]) -> TextBank:
        """The bank of all classes; row i has the feature of ``order[i]``."""
        rows = torch.stack([features[name] for name in order])
        return TextBank(("boat", "ring", "star"), rows, ("a {}",), "tiny", "0" * 64)

    return build


def _measure(protocol: str, found: BoxArrays, group: str = "all") -> dict[str, Any]:
    truth = load_truth(detection_set("coco", "val").annotations)
    return measure(protocol, truth, found, load_classes("coco"), group)


def test_true_boxes_are_named_by_their_own_features(clip: ClipFolder, bank: Callable) -> None:
    """With the right rows all are right; with boat and star exchanged, only the novel ring is."""
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 100, 0.0, use_objectness=False))
    encoder = RegionEncoder.from_clip(clip.model().visual)
    right = true_box_top1(encoder, detector.data_preprocessor, "coco", "val", SIZES, bank(("boat", "ring", "star")))
    assert (right["top1_base"], right["top1_novel"], right["top1_all"]) == (1.0, 1.0, 1.0)
    assert right["regions"] == {"base": 2, "novel": 1, "all": 3}
    recipe = {"view": "roi_align", "templates": "1 templates, the first 'a {}'", "background": "none", "classes": 3}
    assert (right["recipe"], right["top5_all"], right["class_mean_top1_all"]) == (recipe, 1.0, 1.0)
    wrong = true_box_top1(encoder, detector.data_preprocessor, "coco", "val", SIZES, bank(("star", "ring", "boat")))
    assert (wrong["top1_base"], wrong["top1_novel"]) == (0.0, 1.0) and wrong["top1_all"] == pytest.approx(1 / 3)
    assert wrong["per_class"] == {"boat": 0.0, "ring": 1.0, "star": 0.0}


def test_detections_on_true_boxes_are_the_true_objects(clip: ClipFolder, bank: Callable) -> None:
    """In original pixels, under the ids of the annotations; the measure calls them perfect."""
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 100, 0.0, use_objectness=False))
    found = detect(detector, "coco", "val", SIZES, "truth", bank(("boat", "ring", "star")), "test")
    best = {}
    for entry in sorted(coco_results(found), key=lambda entry: entry["score"]):
        best[entry["image_id"], tuple(entry["bbox"])] = entry["category_id"]
    assert best == {(number, tuple(box)): kind for number, objects in OBJECTS.items() for kind, box in objects}
    numbers = _measure("constrained", found)
    assert numbers["ap50_base"] == numbers["ap50_novel"] == numbers["ap"] == pytest.approx(1.0)


def test_exchanged_rows_lose_the_classes_that_were_exchanged(clip: ClipFolder, bank: Callable) -> None:
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 1, 0.0, use_objectness=False))
    found = detect(detector, "coco", "val", SIZES, "truth", bank(("star", "ring", "boat")), "test")
    assert len(found) == 2, "one detection a picture"
    assert _measure("constrained", found)["ap50_base"] == 0.0


def test_a_constrained_vocabulary_knows_its_group_only(clip: ClipFolder, bank: Callable) -> None:
    """With boat and ring exchanged, the ring is a boat among all classes; among novel classes it can only be a ring.
    The picture without a ring is dropped."""
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 1, 0.0, use_objectness=False))
    exchanged = bank(("ring", "boat", "star"))
    found = detect(detector, "coco", "val", SIZES, "truth", exchanged, "test")
    assert _measure("constrained", found)["ap50_novel"] == 0.0
    found = detect(detector, "coco", "val", SIZES, "truth", exchanged, "test", group="novel")
    assert set(found.category_ids.tolist()) == {5}
    numbers = _measure("constrained", found, "novel")
    assert (numbers["ap50"], numbers["images_dropped"]) == (pytest.approx(1.0), 1)
    with pytest.raises(InputError, match="does not measure the novel classes alone"):
        _measure("generalised", found, "novel")


def test_masks_are_measured_when_every_detection_has_one(data: Path) -> None:
    """Two exact boxes; the mask of the star is right, that of the ring is of the right box's upper 6 of 10 rows."""
    file = data / "annotations/val.json"
    truth = json.loads(file.read_text())
    for entry in truth["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    file.write_text(json.dumps(truth))
    found = []
    for entry, share in zip(truth["annotations"][:2], (1, 0.6), strict=True):
        x, y, width, height = entry["bbox"]
        pixels = np.zeros((1, HEIGHT, WIDTH), bool)
        pixels[0, y : y + round(height * share), x : x + width] = True
        keys = {key: entry[key] for key in ("image_id", "category_id", "bbox")}
        found.append(keys | {"score": 0.9, "segmentation": encode_masks(pixels)[0]})
    truth = load_truth(file, masks=True)
    numbers = measure("generalised", truth, read_detections(found, truth), load_classes("coco"))
    assert numbers["ap50_novel"] == numbers["segm"]["ap50_novel"] == pytest.approx(1.0)
    assert numbers["per_class"] == pytest.approx({"boat": 0.0, "ring": 1.0, "star": 1.0})
    assert (numbers["ap"], numbers["segm"]["ap"]) == (pytest.approx(2 / 3), pytest.approx(1.3 / 3))
    assert numbers["segm"]["protocol"].startswith("COCO mask AP, generalised")
    found = read_detections([found[0], {k: found[1][k] for k in keys} | {"score": 0.9}], truth)
    assert "segm" not in measure("generalised", truth, found, load_classes("coco"))


def test_bank_of_other_classes_is_refused(clip: ClipFolder, bank: Callable) -> None:
    detector = build_detector(clip, zero_shot_settings(ZERO_SHOT, 3, 100, 0.0, use_objectness=False))
    whole = bank(("boat", "ring", "star"))
    with pytest.raises(InputError, match="got 'star', wanted 'ring'") as caught:
        detect(detector, "coco", "val", SIZES, "truth", whole.subset(["boat", "star", "ring"]), "test")
    assert caught.value.key == "names"
