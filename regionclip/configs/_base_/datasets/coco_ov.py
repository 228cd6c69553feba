"""COCO for open-vocabulary detection: training on 48 base classes, the generalised test on all 65."""

_base_ = "./pipelines.py"

from regionclip.text.class_names import COCO_ALL65, COCO_BASE, COCO_NOVEL  # noqa: E402

train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/coco_train"),
    dict(type="ProposalBroadcaster", transforms=_base_.random_resize_and_flip),
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/coco_val"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=COCO_BASE),
        ann_file="data/coco/annotations/ov_coco_train_base48.json",
        data_prefix=dict(img="datasets/coco/train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
# One picture at a time: padding changes features near the border.
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=COCO_ALL65, base_classes=COCO_BASE, novel_classes=COCO_NOVEL),
        ann_file="data/coco/annotations/ov_coco_val_all65.json",
        data_prefix=dict(img="datasets/coco/val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
test_evaluator = dict(
    type="OVCocoMetric",
    ann_file="data/coco/annotations/ov_coco_val_all65.json",
    metric="bbox",
    # COCO's own limits; MMDetection's default counts 1000 detections.
    proposal_nums=(1, 10, 100),
)
val_evaluator = test_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
