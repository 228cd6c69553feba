"""Stage proposals: the RPN's proposals on one data set, and how many true objects they find."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.annotations.truth import boxes_by_image, load_truth
from regionclip.data.datasets.detection import boxes_dataset, test_pipeline
from regionclip.data.layout import detection_set, load_classes, splits
from regionclip.evaluation.recall import average_recall
from regionclip.files import sha256_file, write_json
from regionclip.labelling.proposals import store_proposals, trained_rpn
from regionclip.stages.context import StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/proposals/DATASET: a store a split, and recall.json, the average recall on the held-out ones."""
    dataset, rpn, sizes = context.dataset, context.params.rpn, context.params.detection
    clip = ClipFolder.open(artifacts.TEACHER)
    model = trained_rpn(artifacts.RPN, clip, rpn, nms_iou=rpn.nms_iou, proposals=rpn.proposals)
    known = read(artifacts.RPN)[1].get("classes", ())
    metadata = {"rpn_classes": ",".join(known), "rpn_sha256": sha256_file(artifacts.RPN)}
    classes, recall = load_classes(dataset), {}
    groups = {group: classes.ids_of(names) for group, names in classes.groups.items()}
    for split in splits(dataset):
        scenes = detection_set(dataset, split)
        pictures = boxes_dataset(scenes, classes.names, test_pipeline(sizes, None), training=False)
        place = artifacts.proposals(dataset, split)
        found = store_proposals(model, pictures, place, metadata, sizes.test_batch)
        if split != "train" and is_main_process():
            truth = boxes_by_image(load_truth(scenes.annotations, lvis=classes.federated))
            recall[split] = average_recall(truth, found, groups)
    if is_main_process():
        write_json(artifacts.recall(dataset), recall)
    return recall
