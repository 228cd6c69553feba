"""Test of COCO's 65 classes on the true boxes."""

_base_ = "./pipelines.py"

from regionclip.text.class_names import COCO_ALL65, COCO_BASE, COCO_NOVEL  # noqa: E402

test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadGroundTruthAsProposals"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
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
test_evaluator = dict(
    type="OVCocoMetric",
    ann_file="data/coco/annotations/ov_coco_val_all65.json",
    metric="bbox",
    # COCO's own limits; MMDetection's default counts 1000 detections.
    proposal_nums=(1, 10, 100),
)
test_cfg = dict(type="TestLoop")
