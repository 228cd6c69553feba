"""COCO with boxes of all 80 classes, in training and test."""

_base_ = "./coco_ov.py"

from regionclip.text.class_names import COCO_80  # noqa: E402

train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/coco80_train"),
    dict(type="ProposalBroadcaster", transforms=_base_.random_resize_and_flip),
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/coco80_val"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
train_dataloader = dict(
    dataset=dict(
        metainfo=dict(_delete_=True, classes=COCO_80),
        ann_file="datasets/coco/annotations/instances_train2017.json",
        pipeline=train_pipeline,
    )
)
test_dataloader = dict(
    dataset=dict(
        metainfo=dict(_delete_=True, classes=COCO_80),
        ann_file="datasets/coco/annotations/instances_val2017.json",
        pipeline=test_pipeline,
    )
)
val_dataloader = test_dataloader
test_evaluator = dict(type="CocoMetric", ann_file="datasets/coco/annotations/instances_val2017.json")
val_evaluator = test_evaluator
