"""Stage pseudo_boxes: objects of the novel classes that CLIP and RegionCLIP find in a set's training pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from mmengine.dist import is_main_process

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.annotations.truth import BoxArrays, Truth, boxes_by_image, load_truth
from regionclip.data.layout import ClassList, detection_set, load_classes
from regionclip.engine.detection import detect
from regionclip.errors import InputError
from regionclip.evaluation.detections import coco_results
from regionclip.evaluation.overlap import overlaps
from regionclip.files import atomic_dir, write_json
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import zero_shot_settings
from regionclip.stages.context import StageContext
from regionclip.text.text_bank import TextBank


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/pseudo_boxes/DATASET/INITIALISATION.json, a COCO file; nothing where the params want none.

    All classes compete for a box; of those that novel ones win, the ones beside all true boxes are kept. Each
    initialisation has its own, so that neither learns from the other.

    Raises:
        InputError: No class is novel.
    """
    dataset, params = context.dataset, context.params
    wanted, folder = params.finetune.sets[dataset].pseudo_boxes, artifacts.PSEUDO_BOXES / dataset
    key = f"finetune.sets.{dataset}.pseudo_boxes"
    if wanted is None:
        if is_main_process():
            with atomic_dir(folder):
                pass
        return context.not_needed(f"{key} is null")
    classes, bank = load_classes(dataset), TextBank.load(artifacts.class_bank(dataset))
    if not classes.novel_names:
        raise InputError(f"{dataset} has no novel class to find", file="params.yaml", key=key, mend="set it to null")
    truth, metrics = load_truth(detection_set(dataset, "train").annotations), {}
    # One scale of scores, whatever the measured ones are.
    zero_shot = params.zero_shot.model_copy(update={"score_mode": "sigmoid"})
    most, least = params.detection.test_proposals, wanted.score_threshold
    settings = zero_shot_settings(zero_shot, len(classes.names), most, least, use_objectness=True)
    settings["test_cfg.rcnn.nms"] |= {"class_agnostic": True}
    for name in params.finetune.initialisations:
        clip = ClipFolder.open(artifacts.CLIP_FOLDERS[name])
        bank.require(width=clip.model_cfg["embed_dim"])
        model, proposals = build_detector(clip, settings), artifacts.proposals(dataset, "train")
        found = detect(model, dataset, "train", params.detection, proposals, bank, f"{dataset} by {name}")
        if is_main_process():
            kept = beside(found, truth, classes.ids_of(classes.novel_names), zero_shot.nms_iou)
            write_json(artifacts.pseudo_boxes(dataset, name), _file(kept, truth, classes), indent=None)
            metrics[name] = _count(kept, classes)
    return metrics


def beside(found: BoxArrays, truth: Truth, category_ids: Collection[int], iou: float) -> BoxArrays:
    """Return the detections of some classes that overlap no true box, of whatever class, by more than ``iou``.

    Those below one pixel are left out, which a training does not take.
    """
    objects = boxes_by_image(truth)
    corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)
    rows = [
        row
        for row in np.flatnonzero(np.isin(found.category_ids, [*category_ids]) & (found.boxes[:, 2:] >= 1).all(axis=1))
        if not (overlaps(corners[row], objects[found.image_ids[row]][0]) > iou).any()
    ]
    return found.take(np.array(rows, np.int64))


def _file(boxes: BoxArrays, truth: Truth, classes: ClassList) -> dict[str, Any]:
    seen = set(boxes.image_ids.tolist())
    return {
        "images": [image for image in truth.images if image["id"] in seen],
        "annotations": [{"id": number, "iscrowd": 0, **box} for number, box in enumerate(coco_results(boxes), 1)],
        "categories": [
            {"id": identity, "name": name}
            for identity, name in zip(classes.ids, classes.names, strict=True)
            if name in classes.novel_names
        ],
    }


def _count(boxes: BoxArrays, classes: ClassList) -> dict[str, Any]:
    names = dict(zip(classes.ids, classes.names, strict=True))
    by_class = Counter(names[identity] for identity in boxes.category_ids.tolist())
    counts = {"boxes": len(boxes), "pictures": len(np.unique(boxes.image_ids))}
    return counts | {"by_class": {name: by_class[name] for name in classes.novel_names}}
