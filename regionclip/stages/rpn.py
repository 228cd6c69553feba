"""Stage rpn: train the region proposal network on base boxes only, store proposals, measure their recall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.model import BaseModel

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.training_state import publish
from regionclip.contracts.leakage import assert_no_novel
from regionclip.data.detection import boxes_dataset, test_pipeline, train_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.data.stream import StreamDataset
from regionclip.engine.training import train
from regionclip.evaluation.recall import average_recall
from regionclip.evaluation.truth import boxes_by_image, load_truth
from regionclip.files import sha256_file
from regionclip.models.assembly import build_rpn
from regionclip.regions.proposals import store_proposals
from regionclip.stages.runner import StageContext

TEACHER, OUT, PROPOSALS = Path("artifacts/teacher"), Path("artifacts/rpn/rpn.pth"), Path("artifacts/proposals")
HISTORY = Path("artifacts/history/rpn.jsonl")


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/rpn and artifacts/proposals/{coco,lvis}_{train,dev,val}."""
    trained_on = context.params.rpn.dataset
    classes = load_classes(trained_on)
    assert_no_novel(detection_set(trained_on, "train").annotations, Path("data") / trained_on / "classes.json")
    model = _train(context)
    publish(
        model.state_dict(),
        OUT,
        {"dataset": trained_on, "classes": list(classes.base_names), "stage_digest": context.digest},
    )
    metadata = {"rpn_sha256": sha256_file(OUT), "rpn_classes": ",".join(classes.base_names)}
    return {dataset: _propose(context, model, dataset, metadata) for dataset in ("coco", "lvis")}


def _train(context: StageContext) -> BaseModel:
    params, rpn = context.params, context.params.rpn
    scenes, names = detection_set(rpn.dataset, "train"), load_classes(rpn.dataset).base_names
    model = build_rpn(ClipFolder.open(TEACHER), rpn, nms_iou=rpn.nms_iou, proposals=rpn.proposals)
    boxes = boxes_dataset(scenes, names, train_pipeline(params.detection, None), training=True)
    stream = StreamDataset(boxes, params.seed)
    return train(model, stream, rpn.schedule, title="rpn", seed=params.seed, scratch=context.scratch, history=HISTORY)


def _propose(context: StageContext, model: BaseModel, dataset: str, metadata: dict[str, str]) -> dict[str, Any]:
    """Store the proposals of a data set's pictures; return their average recall on each held-out split."""
    classes, recall = load_classes(dataset), {}
    groups = {group: classes.ids_of(names) for group, names in classes.groups.items()}
    for split in ("train", "dev", "val"):
        scenes = detection_set(dataset, split)
        pictures = boxes_dataset(scenes, classes.names, test_pipeline(context.params.detection, None), training=False)
        proposals = store_proposals(model, pictures, PROPOSALS / f"{dataset}_{split}", metadata)
        if split != "train":
            truth = boxes_by_image(load_truth(scenes.annotations, lvis=dataset == "lvis"))
            recall[split] = average_recall(truth, proposals, groups)
    return recall
