"""COCO for an RPN: training on base boxes; the test writes a region store and measures recall on all 65 classes."""

_base_ = "./pipelines.py"

from regionclip.text.class_names import COCO_ALL65, COCO_BASE  # noqa: E402

train_pipeline = [_base_.load_image, _base_.load_boxes, *_base_.random_resize_and_flip, _base_.pack]
test_pipeline = [_base_.load_image, _base_.load_boxes, *_base_.resize, _base_.pack]
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
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=COCO_ALL65),
        ann_file="data/coco/annotations/ov_coco_val_all65.json",
        data_prefix=dict(img="datasets/coco/val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = [
    dict(type="StoreProposals", store="data/proposals/coco_val", metadata=dict(config="rpn_coco48_c4")),
    dict(
        type="CocoMetric",
        ann_file="data/coco/annotations/ov_coco_val_all65.json",
        metric="proposal_fast",
        proposal_nums=(100, 300, 1000),
    ),
]
test_cfg = dict(type="TestLoop")
